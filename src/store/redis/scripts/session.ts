import { script } from '../redis-script.ts'
import { PRELUDE } from './prelude.ts'

/**
 * The record is text: owner ('' nobody), delivered, created, used, ttl, principal and state, a line each; the last two are
 * JSON, and so without line breaks. Generation and expiry stand in the
 * head of the log, where appends need them.
 */
const RECORD = `
local RECORD = '^([^\\n]*)\\n(%d+)\\n(%d+)\\n(%d+)\\n(%d+)\\n(.*)$'

-- The numbers of the log's head, if the session lives, and the head itself.
local function live(log)
  local raw = redis.call('LINDEX', log, 0)
  if not raw then return nil end
  local numbers = {struct.unpack(HEAD, raw)}
  if numbers[5] <= now then return nil end
  return numbers, raw
end

local function writeHead(log, numbers, raw)
  redis.call('LSET', log, 0, struct.pack(HEAD, unpack(numbers, 1, 6)) .. string.sub(raw, EPOCH))
end

local function writeRecord(record, ...)
  redis.call('SET', record, table.concat({...}, '\\n'), 'KEEPTTL')
end
`

/**
 * KEYS  log, record, tombstone
 * ARGV  1 epoch, 2 owner, 3 ttl in ms, 4 principal and state: two lines of JSON
 * Result: when the session expires (ms), 'taken' or 'gone'
 */
export const CREATE = script(`${PRELUDE}${RECORD}
local log, record = KEYS[1], KEYS[2]
if redis.call('EXISTS', KEYS[3]) == 1 then return 'gone' end
if live(log) and redis.call('EXISTS', record) == 1 then return 'taken' end
redis.call('UNLINK', log, record)
local expires = now + ARGV[3]
redis.call('RPUSH', log, struct.pack(HEAD, 0, 0, 0, 1, expires, slack(expires)) .. ARGV[1])
writeRecord(record, ARGV[2], 0, integer(now), integer(now), ARGV[3], ARGV[4])
expireAt(slack(expires), log, record)
return expires
`)

/**
 * KEYS  log, record
 * Result: {} or {generation, expires, record}
 */
export const GET = script(`${PRELUDE}${RECORD}
local text, numbers, raw = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text then return {} end
return {numbers[4], numbers[5], text}
`)

/**
 * KEYS  log, record
 * ARGV  1 the new owner, 2 the generation it saw, 3 the owner it saw ('' nobody), 4 what to add to the generation
 * Result: as of GET, after the change; {}: it was not to be had
 */
export const CLAIM = script(`${PRELUDE}${RECORD}
local text, numbers, raw = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text or numbers[4] ~= tonumber(ARGV[2]) then return {} end
local owner, rest = string.match(text, '^([^\\n]*)(.*)$')
if owner ~= ARGV[3] then return {} end
numbers[4] = numbers[4] + ARGV[4]
writeHead(KEYS[1], numbers, raw)
writeRecord(KEYS[2], ARGV[1] .. rest)
return {numbers[4], numbers[5], ARGV[1] .. rest}
`)

/** KEYS log, record · ARGV 1 generation · Result: 1 released, 0 not in that generation */
export const RELEASE = script(`${PRELUDE}${RECORD}
local text, numbers, raw = redis.call('GET', KEYS[2]), live(KEYS[1])
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
local text, numbers, raw = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text or numbers[4] ~= tonumber(ARGV[1]) then return 0 end
local head, principal = string.match(text, '^(.*)\\n([^\\n]*)\\n[^\\n]*$')
writeRecord(KEYS[2], head, ARGV[3] == '' and principal or ARGV[3], ARGV[2])
return 1
`)

/** KEYS log, record · ARGV 1 ttl in ms, 2 delivered ('' unchanged) · Result: 1, or 0 without such a session */
export const TOUCH = script(`${PRELUDE}${RECORD}
local text, numbers, raw = redis.call('GET', KEYS[2]), live(KEYS[1])
if not numbers or not text then return 0 end
local owner, delivered, created, _, ttl, rest = string.match(text, RECORD)
if ARGV[2] ~= '' and tonumber(ARGV[2]) > tonumber(delivered) then delivered = ARGV[2] end
writeRecord(KEYS[2], owner, delivered, created, integer(now), ttl, rest)
local expires = now + ARGV[1]
if expires > numbers[5] then
  numbers[5] = expires
  if expires > numbers[6] then
    numbers[6] = slack(expires)
    expireAt(numbers[6], KEYS[1], KEYS[2])
  end
  writeHead(KEYS[1], numbers, raw)
end
return 1
`)

/** Leaves a tombstone for the session's ttl. KEYS log, record, tombstone · Result: 1, or 0 without such a session */
export const TERMINATE = script(`${PRELUDE}${RECORD}
local text = redis.call('GET', KEYS[2])
if not live(KEYS[1]) or not text then return 0 end
local _, _, _, _, ttl = string.match(text, RECORD)
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], '', 'PX', ttl)
return 1
`)

/** KEYS log, record · Result: when the session expires (ms), 0: there is none */
export const EXPIRES = script(`${PRELUDE}${RECORD}
local numbers = live(KEYS[1])
if not numbers or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
return numbers[5]
`)
