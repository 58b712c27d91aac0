import { script } from '../redis-script.ts'

/** KEYS node, letters · ARGV 1 public key, 2 '1' it listens already, 3 lease in ms */
export const REGISTER = script(`
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'key', ARGV[1], 'listens', ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
`)

/** KEYS node, letters · ARGV 1 lease in ms · Result: 1, or 0: the lease was over. Nothing brings a node back. */
export const RENEW = script(`
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
`)

/** KEYS node · ARGV 1 '1' it listens on its channel from now on, '0' no more */
export const LISTENS = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'listens', ARGV[1])
`)

/**
 * Ends the lease of a node on whose channel nobody listens, though it said it would.
 * KEYS  node, letters
 * ARGV  1 the node's channel, 2 a channel on which we listen ourselves
 * Result: 1 ended (or over already), 0 it lives, or we cannot know
 */
export const BURY = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 1 end
local heard = redis.call('PUBSUB', 'NUMSUB', ARGV[1], ARGV[2])
if heard[2] > 0 or heard[4] == 0 or redis.call('HGET', KEYS[1], 'listens') ~= '1' then return 0 end
redis.call('UNLINK', KEYS[1], KEYS[2])
return 1
`)

/**
 * KEYS  node, letters
 * ARGV  1 the letter, 2 letters at the most, 3 the node's channel
 * Result: 1 posted; -3 posted, but nobody on this server heard it, though the node said it listens;
 *         -1 no such node; -2 the mailbox is full
 */
export const POST = script(`
local lease = redis.call('PTTL', KEYS[1])
if lease == -2 then return -1 end
local length = redis.call('LLEN', KEYS[2])
if length >= tonumber(ARGV[2]) then return -2 end
redis.call('RPUSH', KEYS[2], ARGV[1])
if length == 0 then redis.call('PEXPIRE', KEYS[2], lease) end
local heard = redis.call('PUBLISH', ARGV[3], '')
if heard == 0 and redis.call('HGET', KEYS[1], 'listens') == '1' then return -3 end
return 1
`)

/** KEYS node, letters · ARGV 1 letters at the most · Result: the letters, which are removed */
export const COLLECT = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('UNLINK', KEYS[2])
  return {}
end
local letters = redis.call('LRANGE', KEYS[2], 0, ARGV[1] - 1)
redis.call('LTRIM', KEYS[2], #letters, -1)
return letters
`)
