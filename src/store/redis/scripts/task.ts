import { script } from '../redis-script.ts'

/** KEYS task, queue · ARGV 1 value, 2 ttl in ms, 3 session (left out: none) · Result: 1, or 0: the id is taken */
export const CREATE_TASK = script(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[1], 'version', 1, 'value', ARGV[1])
if ARGV[3] then redis.call('HSET', KEYS[1], 'session', ARGV[3]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`)

/**
 * KEYS  task, queue
 * ARGV  1 the version it was read in, 2 value, 3 ttl in ms ('' unchanged)
 * Result: 1, or 0: another version, or no such task
 */
export const REPLACE_TASK = script(`
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HSET', KEYS[1], 'value', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return 1
`)

/** Lists a task; the list lives at least as long as it. KEYS the session's list · ARGV 1 id, 2 ttl in ms */
export const LIST_TASK = script(`
redis.call('ZADD', KEYS[1], 0, ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
`)

const IS_ABSENT = `
-- To somebody who names a session, the task of another one is absent; one made without a session is anybody's.
local function isAbsent(task, session)
  local version, owner = unpack(redis.call('HMGET', task, 'version', 'session'))
  return not version or (session and owner and owner ~= session)
end
`

/** KEYS task, queue · ARGV 1 messages at the most, 2 the message, 3 session (left out: anybody's) */
export const PUSH_TASK = script(`${IS_ABSENT}
if isAbsent(KEYS[1], ARGV[3]) then return 'absent' end
local length = redis.call('LLEN', KEYS[2])
if length >= tonumber(ARGV[1]) then return 'full' end
redis.call('RPUSH', KEYS[2], ARGV[2])
if length == 0 then redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1])) end
return 'queued'
`)

/** KEYS task, queue · ARGV 1 messages at the most, 2 session (left out: anybody's) · Result: those taken */
export const SHIFT_TASK = script(`${IS_ABSENT}
if isAbsent(KEYS[1], ARGV[2]) then return {} end
local messages = redis.call('LRANGE', KEYS[2], 0, ARGV[1] - 1)
redis.call('LTRIM', KEYS[2], #messages, -1)
return messages
`)
