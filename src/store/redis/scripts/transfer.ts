import { script } from '../redis-script.ts'
import { PRELUDE } from './prelude.ts'

/** KEYS log, record · Result: {} without such a log, else {epoch, generation, expires, record or ''} */
export const TAKE = script(`${PRELUDE}
local raw = redis.call('LINDEX', KEYS[1], 0)
if not raw then return {} end
local numbers = {struct.unpack(HEAD, raw)}
if numbers[5] <= now then return {} end
local epoch = string.sub(raw, EPOCH, EPOCH + 7)
return {epoch, integer(numbers[4]), integer(numbers[5]), redis.call('GET', KEYS[2]) or ''}
`)

/**
 * KEYS  log, record, tombstone
 * ARGV  1 epoch, 2 generation, 3 floor, 4 last, 5 expires, 6 delivered ('' there is no record),
 *       7 created, used, ttl, principal and state: five lines
 *       then for each event: position, and the entry without it
 * Result: 1, or 0: the log has gone its own way
 */
export const PUT = script(`${PRELUDE}
local log, record = KEYS[1], KEYS[2]
local epoch, generation, expires, delivered = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]), ARGV[6]
if delivered ~= '' and redis.call('EXISTS', KEYS[3]) == 1 then return 0 end

local raw = redis.call('LINDEX', log, 0)
local head = raw and {struct.unpack(HEAD, raw)}
if head and head[5] > now then
  if string.sub(raw, EPOCH, EPOCH + 7) ~= epoch or head[4] > generation then return 0 end
else
  redis.call('UNLINK', log, record)
  head, raw = {0, 0, 0, 0, 0, 0}, string.rep(' ', EPOCH - 1) .. epoch
  redis.call('RPUSH', log, raw)
end

for i = 8, #ARGV, 2 do
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
head[6] = math.max(head[6], slack(head[5]))
redis.call('LSET', log, 0, struct.pack(HEAD, unpack(head)) .. string.sub(raw, EPOCH))

if delivered ~= '' then
  local owner, before = string.match(redis.call('GET', record) or '', '^([^\\n]*)\\n(%d+)')
  if before and tonumber(before) > tonumber(delivered) then delivered = before end
  redis.call('SET', record, (owner or '') .. '\\n' .. delivered .. '\\n' .. ARGV[7])
end
expireAt(head[6], log, record)
return 1
`)
