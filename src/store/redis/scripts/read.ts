import { script } from '../redis-script.ts'
import { PRELUDE } from './prelude.ts'

/**
 * A page of events.
 *
 * KEYS  log
 * ARGV  1 '1' of one stream only, 2 the stream (as it stands in an entry), 3 after this position, 4 events at the most
 *
 * Result: {} without such a log; else {epoch, floor, last, more (1 or 0), damaged entries, scanned up to this position,
 * entries…}. A page ends early after 4 MiB or 2,000 entries looked at, so that no script keeps other clients waiting.
 */
export const READ = script(`${PRELUDE}
local log = KEYS[1]
local filtered, wanted, after, limit = ARGV[1] == '1', ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local raw = redis.call('LINDEX', log, 0)
if not raw then return {} end
local found = raw
raw = modern(raw)
local last, floor, due, _, expires = struct.unpack(HEAD, raw)
if expires <= now then return {} end

if due > 0 and due <= now then
  local _, position
  _, position, due = trim(log, 100000)
  floor = position or floor
  -- In the layout it was found in: who only reads changes nothing that an older release could not read.
  redis.call('LSET', log, 0, struct.pack('>I7I7I7', last, floor, due) .. string.sub(found, 22))
end
local length = redis.call('LLEN', log)

-- Where the events after 'after' begin. Readers mostly ask for the last few: look for it from the end, in steps that
-- double, then halve what is left.
local function start()
  if after <= floor then return 1 end
  if after >= last then return length end
  local function isAfter(index)
    for i = index, length - 1 do
      local position = decode(redis.call('LINDEX', log, i))
      if position then return position > after end
    end
    return true
  end
  local low, high, step = 1, length, 1
  while step < length - 1 and isAfter(length - step) do high = length - step step = step * 2 end
  if step < length - 1 then low = length - step + 1 end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if isAfter(middle) then high = middle else low = middle + 1 end
  end
  return low
end

local result = {string.sub(raw, EPOCH, EPOCH + 7), integer(floor), integer(last)}
local index, count, damaged, more, scanned = start(), 0, 0, 0, after
local chunk, looked, bytes = math.min(limit + 1, 16), 0, 0
while index < length and more == 0 do
  local page, before = redis.call('LRANGE', log, index, index + chunk - 1), bytes
  for _, entry in ipairs(page) do
    local position, _, stream = decode(entry)
    bytes = bytes + #entry
    if not position then
      damaged = damaged + 1
    elseif not filtered or stream == wanted then
      if count == limit then more = 1 break end
      count = count + 1
      result[6 + count] = entry
    end
    scanned = position or scanned
  end
  index = index + #page
  looked = looked + #page
  if index < length and scanned > after and (looked >= 2000 or bytes >= 4194304) then more = 1 end
  if chunk < 256 and bytes - before < 262144 then chunk = chunk * 2 end
end
if more == 0 then scanned = math.max(after, last) end
result[4], result[5], result[6] = more, damaged, integer(scanned)
return result
`)
