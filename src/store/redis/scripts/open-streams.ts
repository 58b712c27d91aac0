/**
 * Which streams of a session are open: a hash from a stream's name to `<position of its first open> <runs> <payload of
 * its latest open>`, which dies with the log. The log's head counts them, so that a call whose `open` and end come
 * together does not touch the hash. For scripts that have the prelude.
 */
export const OPEN_STREAMS = `
-- An entry that opens or ends a stream, and the position of its event; answers how many are open then.
local function noteOpen(open, streams, entry, position, dies)
  local kind, stream, payload = string.match(entry, '^%d+ (%l) ([^ ]*) (.*)$')
  if kind == 'o' then
    local first, runs = string.match(redis.call('HGET', open, stream) or '', '^(%d+) (%d+) ')
    redis.call('HSET', open, stream, table.concat({first or integer(position), (runs or 0) + 1, payload}, ' '))
    if first then return streams end
    expireAt(dies, open)
    return streams + 1
  end
  if streams == 0 then return 0 end
  return math.max(0, streams - redis.call('HDEL', open, stream))
end

-- Layout 1 did not keep them beside the log: they are found in it.
local function findOpen(log, open, dies)
  local streams = 0
  for start = 1, redis.call('LLEN', log) - 1, 256 do
    for _, entry in ipairs(redis.call('LRANGE', log, start, start + 255)) do
      local position = decode(entry)
      if position and string.find(entry, '^%d+ [ofe] ', 8) then
        streams = noteOpen(open, streams, string.sub(entry, 8), position, dies)
      end
    end
  end
  return streams
end
`
