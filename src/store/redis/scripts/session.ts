import { script } from '../redis-script.ts'
import { INDEX } from './index.ts'
import { NODE_STATE } from './node.ts'
import { OPEN_STREAMS } from './open-streams.ts'
import { PRELUDE } from './prelude.ts'

/**
 * The record is text: owner ('' nobody), delivered, created, used, ttl, principal and state, a line each; the last two are
 * JSON, and so without line breaks. Generation and expiry stand in the head of the log, where appends need them.
 */
const RECORD = `
local RECORD = '^([^\\n]*)\\n(%d+)\\n(%d+)\\n(%d+)\\n(%d+)\\n(.*)$'

-- The numbers of the log's head, if the session lives, what follows them, and the head as it was found.
local function live(log)
  local found = redis.call('LINDEX', log, 0)
  if not found then return nil end
  local raw = modern(found)
  local numbers = {struct.unpack(HEAD, raw)}
  if numbers[5] <= now then return nil end
  return numbers, string.sub(raw, EPOCH), found
end

local function writeHead(log, numbers, rest)
  redis.call('LSET', log, 0, struct.pack(HEAD, unpack(numbers, 1, 7)) .. rest)
end

local function writeRecord(record, ...)
  redis.call('SET', record, table.concat({...}, '\\n'), 'KEEPTTL')
end
`

/**
 * KEYS  log, record, open streams, tombstone; on a single server also index, due, and of a principal's session owners and
 *       the principal's set
 * ARGV  1 epoch, 2 owner, 3 ttl in ms, 4 generation, 5 principal and state: two lines of JSON, 6 the session's id,
 *       7 sessions that the principal may have ('' any number, or it has been looked after)
 * Result: when the session expires (ms), 'taken', 'gone', or 'full': the principal's set is, though some in it may have
 * expired. Sent a second time it says the same: nobody else draws the same generation.
 */
export const CREATE = script(`${PRELUDE}${RECORD}${INDEX}
local log, record, open = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', KEYS[4]) == 1 then return 'gone' end
local numbers = live(log)
local text = numbers and redis.call('GET', record)
if text then
  local again = numbers[4] == tonumber(ARGV[4]) and string.match(text, '^[^\\n]*') == ARGV[2]
  return again and numbers[5] or 'taken'
end
local limit = tonumber(ARGV[7])
if limit and KEYS[8] and redis.call('ZCARD', KEYS[8]) >= limit then return 'full' end
redis.call('UNLINK', log, record, open)
local expires = now + ARGV[3]
redis.call('RPUSH', log, struct.pack(HEAD, 0, 0, 0, ARGV[4], expires, slack(expires), 0) .. ARGV[1])
writeRecord(record, ARGV[2], 0, integer(now), integer(now), ARGV[3], ARGV[5])
expireAt(slack(expires), log, record)
if KEYS[5] then enter(ARGV[6], expires, KEYS[5], KEYS[6], KEYS[7], KEYS[8]) end
return expires
`)

/**
 * KEYS  log, record
 * ARGV  as of nodeState
 * Result: {} or {generation, expires, record, state of the owner}
 */
export const GET = script(`${PRELUDE}${RECORD}${NODE_STATE}
local text, numbers = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text then return {} end
return {integer(numbers[4]), numbers[5], text, nodeState(string.match(text, '^[^\\n]*'), ARGV[1], ARGV[2], ARGV[3])}
`)

/**
 * KEYS  log, record, open streams
 * ARGV  1 the new owner, 2 the generation it saw, 3 the owner it saw ('' nobody), 4 the new generation
 *       then as of nodeState
 * Result: as of GET, after the change, the last position and the hash of open streams; {}: it was not to be had. Sent a second time
 * it is done once: nobody else draws the same generation.
 */
export const CLAIM = script(`${PRELUDE}${RECORD}${NODE_STATE}${OPEN_STREAMS}
local log, record, open, claimer = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local text, numbers, rest, found = redis.call('GET', record), live(log)
if not numbers or not text then return {} end
local owner, lines = string.match(text, '^([^\\n]*)(.*)$')
local seen = numbers[4] == tonumber(ARGV[2]) and (owner == ARGV[3] or owner == claimer)
local again = numbers[4] == tonumber(ARGV[4]) and owner == claimer
if not seen and not again then return {} end
if isOld(found) then numbers[7] = findOpen(log, open, numbers[6]) end
numbers[4] = tonumber(ARGV[4])
writeHead(log, numbers, rest)
writeRecord(record, claimer .. lines)
local streams = numbers[7] > 0 and redis.call('HGETALL', open) or {}
local state = nodeState(claimer, ARGV[5], ARGV[6], ARGV[7])
return {integer(numbers[4]), numbers[5], claimer .. lines, state, integer(numbers[1]), streams}
`)

/** KEYS log, record · ARGV 1 generation · Result: 1 released, 0 not in that generation */
export const RELEASE = script(`${PRELUDE}${RECORD}
local text, numbers = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text or numbers[4] ~= tonumber(ARGV[1]) then return 0 end
writeRecord(KEYS[2], (string.gsub(text, '^[^\\n]*', '')))
return 1
`)

/**
 * KEYS  log, record
 * ARGV  1 generation, 2 the state as JSON, 3 the principal as JSON ('' unchanged)
 * Result: 1 replaced, 0 not in that generation
 */
export const UPDATE = script(`${PRELUDE}${RECORD}
local text, numbers = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text or numbers[4] ~= tonumber(ARGV[1]) then return 0 end
local head, principal = string.match(text, '^(.*)\\n([^\\n]*)\\n[^\\n]*$')
writeRecord(KEYS[2], head, ARGV[3] == '' and principal or ARGV[3], ARGV[2])
return 1
`)

/**
 * KEYS  log, record, open streams
 * ARGV  1 ttl in ms ('' its expiry stays), 2 delivered ('' unchanged), 3 the caller's generation ('' none)
 * Result: 1, or 0: there is no such session, or it is in another generation
 */
export const TOUCH = script(`${PRELUDE}${RECORD}
local text, numbers, rest = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text then return 0 end
local ttl, raised, generation = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local owner, delivered, created, used, lifetime, lines = string.match(text, RECORD)
local raises = raised and raised > tonumber(delivered)
if raises then delivered = ARGV[2] end
if ttl then used = integer(now) end
if raises or ttl then writeRecord(KEYS[2], owner, delivered, created, used, lifetime, lines) end
local expires = now + (ttl or 0)
if expires > numbers[5] then
  numbers[5] = expires
  if expires > numbers[6] then
    numbers[6] = slack(expires)
    expireAt(numbers[6], KEYS[1], KEYS[2], KEYS[3])
  end
  writeHead(KEYS[1], numbers, rest)
end
return (not generation or numbers[4] == generation) and 1 or 0
`)

/**
 * Leaves a tombstone for the session's ttl, and nothing else.
 * KEYS  log, record, open streams, tombstone; on a single server also index, due, owners
 * ARGV  1 the session's id
 * Result: 1, or 0 without such a session
 */
export const TERMINATE = script(`${PRELUDE}${RECORD}${INDEX}
local text = redis.call('GET', KEYS[2])
if not live(KEYS[1]) or not text then return 0 end
local _, _, _, _, ttl = string.match(text, RECORD)
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
redis.call('SET', KEYS[4], '', 'PX', ttl)
if KEYS[5] then leave(ARGV[1], KEYS[5], KEYS[6], KEYS[7]) end
return 1
`)

/**
 * Takes sessions that are no more out of the indexes; the others are due again when they expire now. On a single server.
 * KEYS  index, due, owners; then for each session: log, record
 * ARGV  their ids
 * Result: how many were taken out
 */
export const DROP_DEAD = script(`${PRELUDE}${RECORD}${INDEX}
local dropped = 0
for i, id in ipairs(ARGV) do
  local numbers = live(KEYS[2 * i + 2])
  if numbers and redis.call('EXISTS', KEYS[2 * i + 3]) == 1 then
    redis.call('ZADD', KEYS[2], 'XX', integer(numbers[5]), id)
  else
    dropped = dropped + leave(id, KEYS[1], KEYS[2], KEYS[3])
  end
end
return dropped
`)

/** KEYS log, record · Result: when the session expires (ms), 0: there is none */
export const EXPIRES = script(`${PRELUDE}${RECORD}
local numbers = live(KEYS[1])
if not numbers or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
return numbers[5]
`)
