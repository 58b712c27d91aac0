/**
 * Lua that the scripts share. Times are milliseconds of the server that runs the script, positions are microseconds.
 * Numbers become text by `%.0f`: Lua's own conversion keeps 14 digits, and a position has 16.
 *
 * A log is a list: its head, then its events, the oldest first. The head is packed into one string, read and written
 * whole; on the path of every append that costs a third of a hash with the same fields. In the list it costs no key of its
 * own, and head and events cannot be lost or evicted one without the other.
 *
 * A session lives while `expires` is in the future. Its keys expire a little later (`dies`), so that they never die one
 * after another under a living session, and an append need not set three expiries each time.
 */
export const PRELUDE = `
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

local function integer(number) return string.format('%.0f', number) end

-- last and floor (positions), due (when the oldest event expires, 0: there is none), generation, expires, dies, and how
-- many streams are open; then 8 characters of epoch, then what senders did last, 21 characters each, see append.
local HEAD = '>I7I7I7I7I7I7I3'
local EPOCH, SENDERS = 46, 54

-- Layout 1 had generations of five bytes and did not count open streams: its heads are shorter by five.
local function isOld(raw) return (#raw - 48) % 21 == 0 end

local function modern(raw)
  if not isOld(raw) then return raw end
  local last, floor, due, generation, expires, dies = struct.unpack('>I7I7I7I5I7I7', raw)
  return struct.pack(HEAD, last, floor, due, generation, expires, dies, 0) .. string.sub(raw, 41)
end

-- When the keys of a session that expires at 'expires' shall die.
local function slack(expires) return math.floor(now + (expires - now) * 1.125 + 1000) end

local function expireAt(at, ...)
  for _, key in ipairs({...}) do redis.call('PEXPIREAT', key, integer(at)) end
end

-- The position of an entry of the log, when it expires, and its stream; nil when the entry is damaged. A position is
-- the time at which its event was stored (later only where the clock was set back: then the event lives longer).
local function decode(entry)
  if not entry or #entry < 8 then return nil end
  local ttl, stream = string.match(entry, '^(%d+) %l ([^ ]*) ', 8)
  if not ttl then return nil end
  local position = struct.unpack('>I7', entry)
  return position, math.floor(position / 1000) + ttl, stream
end

-- Drops expired events at the front of a log, 'most' at the most: how many, the last one's position, and when the
-- next one expires (0: none is left). The first place, left by the last one dropped, is the head's: write it!
local function trim(log, most)
  local dropped, floor, due = 0, nil, 0
  while dropped < most do
    local page = redis.call('LRANGE', log, dropped + 1, dropped + 64)
    local done = #page < 64
    for _, entry in ipairs(page) do
      local position, expires = decode(entry)
      if position and expires > now then due = expires done = true break end
      dropped = dropped + 1
      floor = position or floor
    end
    if done then break end
  end
  if dropped > 0 then redis.call('LTRIM', log, dropped, -1) end
  if due == 0 and dropped >= most then due = now end
  return dropped, floor, due
end
`
