import { script } from '../redis-script.ts'

/** KEYS task · ARGV 1 value, 2 ttl in ms, 3 session (left out: none) · Result: 1, or 0: the id is taken */
export const CREATE_TASK = script(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'version', 1, 'value', ARGV[1])
if ARGV[3] then redis.call('HSET', KEYS[1], 'session', ARGV[3]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`)

/** KEYS task · ARGV 1 the version it was read in, 2 value, 3 ttl in ms ('' unchanged) · Result: 1, or 0: another version, or no such task */
export const REPLACE_TASK = script(`
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('HSET', KEYS[1], 'value', ARGV[2])
if ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
`)

/** Lists a task; the list lives at least as long as it. KEYS the session's list · ARGV 1 id, 2 ttl in ms */
export const LIST_TASK = script(`
redis.call('ZADD', KEYS[1], 0, ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
`)
