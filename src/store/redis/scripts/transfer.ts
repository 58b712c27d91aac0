import { script } from '../redis-script.ts'
import { PRELUDE } from './prelude.ts'

/**
 * KEYS  log, record, open streams
 * Result: {} without such a log, else {epoch, generation, expires, record or '', hash of open streams}
 */
export const TAKE = script(`${PRELUDE}
local raw = redis.call('LINDEX', KEYS[1], 0)
if not raw then return {} end
raw = modern(raw)
local _, _, _, generation, expires, _, streams = struct.unpack(HEAD, raw)
if expires <= now then return {} end
local epoch, record = string.sub(raw, EPOCH, EPOCH + 7), redis.call('GET', KEYS[2]) or ''
return {epoch, integer(generation), integer(expires), record, streams > 0 and redis.call('HGETALL', KEYS[3]) or {}}
`)

/** KEYS tombstone · Result: until when the session's id is refused (ms since 1970), 0: it was not terminated */
export const TAKE_TOMBSTONE = script(`${PRELUDE}
local left = redis.call('PTTL', KEYS[1])
return left > 0 and now + left or 0
`)

/**
 * KEYS  log, record, open streams, tombstone
 * ARGV  1 epoch, 2 generation, 3 floor, 4 last, 5 expires, 6 delivered ('' there is no record),
 *       7 created, used, ttl, principal and state: five lines
 *       8 open streams; then for each its name, and what stands in the hash
 *       then for each event: position, and the entry without it
 * Result: 1, or 0: the log has gone its own way
 */
export const PUT = script(`${PRELUDE}
local log, record, open = KEYS[1], KEYS[2], KEYS[3]
local epoch, generation, expires, delivered = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]), ARGV[6]
if delivered ~= '' and redis.call('EXISTS', KEYS[4]) == 1 then return 0 end

local raw = redis.call('LINDEX', log, 0)
raw = raw and modern(raw)
local head = raw and {struct.unpack(HEAD, raw)}
if head and head[5] > now then
  if string.sub(raw, EPOCH, EPOCH + 7) ~= epoch or head[4] > generation then return 0 end
else
  redis.call('UNLINK', log, record)
  head, raw = {0, 0, 0, 0, 0, 0, 0}, string.rep(' ', EPOCH - 1) .. epoch
  redis.call('RPUSH', log, raw)
end

local streams = tonumber(ARGV[8])
for i = 9 + 2 * streams, #ARGV, 2 do
  local position = tonumber(ARGV[i])
  if position > head[1] then
    local entry = struct.pack('>I7', position) .. ARGV[i + 1]
    redis.call('RPUSH', log, entry)
    local _, expiry = decode(entry)
    if head[3] == 0 then head[3] = expiry end
    head[1] = position
  end
end
head[1], head[2] = math.max(head[1], ARGV[4]), math.max(head[2], ARGV[3])
head[4], head[5] = generation, math.max(head[5], expires)
head[6], head[7] = math.max(head[6], slack(head[5])), streams
redis.call('LSET', log, 0, struct.pack(HEAD, unpack(head, 1, 7)) .. string.sub(raw, EPOCH))

redis.call('UNLINK', open)
for i = 9, 8 + 2 * streams, 2 do redis.call('HSET', open, ARGV[i], ARGV[i + 1]) end

if delivered ~= '' then
  local owner, before = string.match(redis.call('GET', record) or '', '^([^\\n]*)\\n(%d+)')
  if before and tonumber(before) > tonumber(delivered) then delivered = before end
  redis.call('SET', record, (owner or '') .. '\\n' .. delivered .. '\\n' .. ARGV[7])
end
expireAt(head[6], log, record, open)
return 1
`)

/**
 * KEYS  log, record, open streams, tombstone
 * ARGV  1 until when the id is refused: the later of this and what stands there already
 */
export const PUT_TOMBSTONE = script(`${PRELUDE}
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
local left = redis.call('PTTL', KEYS[4])
if left > 0 and now + left >= tonumber(ARGV[1]) then return 1 end
if tonumber(ARGV[1]) > now then redis.call('SET', KEYS[4], '', 'PXAT', ARGV[1]) end
return 1
`)
