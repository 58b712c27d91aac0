/**
 * Enters a session into the indexes, and takes it out: see redis-index. On a single server only, where they are within
 * reach of the script that makes or ends the session.
 */
export const INDEX = `
local function enter(id, expires, index, due, owners, held)
  redis.call('ZADD', index, 0, id)
  redis.call('ZADD', due, integer(expires), id)
  if held then
    redis.call('HSET', owners, id, held)
    redis.call('ZADD', held, integer(expires), id)
  end
end

-- 1 if it was there: of several that take out the same session, one did.
local function leave(id, index, due, owners)
  local held = redis.call('HGET', owners, id)
  if held then
    redis.call('ZREM', held, id)
    redis.call('HDEL', owners, id)
  end
  redis.call('ZREM', index, id)
  return redis.call('ZREM', due, id)
end
`
