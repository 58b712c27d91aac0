import { script } from '../redis-script.ts'

/** KEYS node · ARGV 1 public key, 2 profile, 3 '1' it listens already, 4 lease in ms */
export const REGISTER = script(`
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'key', ARGV[1], 'profile', ARGV[2], 'listens', ARGV[3])
return redis.call('PEXPIRE', KEYS[1], ARGV[4])
`)

/** KEYS node · ARGV 1 '1' it listens on its channel from now on, '0' no more */
export const LISTENS = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'listens', ARGV[1])
`)

const IS_SILENT = `
-- Does nobody hear the node's channel, though it said it listens? Believed only while our own channel is heard.
local function isSilent(node, channel, ours)
  if ours == '' or redis.call('HGET', node, 'listens') ~= '1' then return false end
  local heard = redis.call('PUBSUB', 'NUMSUB', channel, ours)
  return heard[2] == 0 and heard[4] > 0
end
`

/**
 * How a node fares whose id was found inside a script: 1 it lives, 0 its lease is over, 2 it may be dead (nobody hears its
 * channel), -1 another server has to be asked. Takes the prefix of the nodes' keys ('' in a cluster, where they lie
 * elsewhere), the prefix of their channels, and a channel on which we hear ourselves ('' none).
 */
export const NODE_STATE = `${IS_SILENT}
local function nodeState(id, keys, channels, ours)
  if id == '' then return 0 end
  if keys == '' then return -1 end
  local tag = string.gsub(id, '[%%{}]', function(char) return string.format('%%%02X', string.byte(char)) end)
  local node, channel = keys .. '{' .. tag .. '}', channels .. id
  if redis.call('EXISTS', node) == 0 then return 0 end
  return isSilent(node, channel, channel ~= ours and ours or '') and 2 or 1
end
`

/**
 * What a node says of itself.
 * KEYS node · ARGV 1 its channel, 2 a channel on which we hear ourselves ('' none)
 * Result: {} or {state as above, public key, profile}
 */
export const GET_NODE = script(`${IS_SILENT}
local key, profile = unpack(redis.call('HMGET', KEYS[1], 'key', 'profile'))
if not key then return {} end
return {isSilent(KEYS[1], ARGV[1], ARGV[2]) and 2 or 1, key, profile or '{}'}
`)

/**
 * Ends the lease of a node on whose channel nobody listens, though it said it would.
 * KEYS  node
 * ARGV  1 the node's channel, 2 a channel on which we hear ourselves
 * Result: 1 ended (or over already), 0 it lives, or we cannot know
 */
export const DECLARE_DEAD = script(`${IS_SILENT}
if redis.call('EXISTS', KEYS[1]) == 0 then return 1 end
if not isSilent(KEYS[1], ARGV[1], ARGV[2]) then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
`)

/**
 * KEYS  node, parcel
 * ARGV  1 what to publish, 2 the node's channel, 3 ms that a parcel is kept, 4 the parcel (left out: there is none)
 * Result: 1 sent; 0 no such node; -1 nobody on this server heard it, though the node said it listens
 */
export const SEND = script(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[4] then redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3]) end
local heard = redis.call('PUBLISH', ARGV[2], ARGV[1])
if heard == 0 and redis.call('HGET', KEYS[1], 'listens') == '1' then return -1 end
return 1
`)
