import { script } from '../redis-script.ts'
import { OPEN_STREAMS } from './open-streams.ts'
import { PRELUDE } from './prelude.ts'

/**
 * Appends to the logs of one or more sessions; each append is atomic and fails alone.
 *
 * KEYS  for each append: log, record, open streams; on a single server, which asks for no list of all that a script touches,
 *       the log alone
 * ARGV  1 the sender, 8 characters
 *       2 the epoch of a log that has to be begun, 8 characters
 *       3 the number of the first append among the sender's; the others follow by one. The same number again means
 *         that it is sent a second time
 *       4 ttl in ms
 *       5 '1': it counts as use of the session
 *       6 events of a session to keep, '' all
 *       7 events of each append
 *       then, for each append: its generation ('-' not fenced), the position to go on beyond, and the numbers of those
 *       entries that open ('o') or end ('e') a stream, `<generation> <beyond>{ o<n>| e<n>}`; and the entries, without
 *       their positions: `<ttl ms> <kind> <stream> <payload>`
 *
 * Result, for each append, two values: the first position (the others follow by one) and the epoch; -1 and the
 * generation: fenced; -2 and '': no such session; -3 and a message: Redis refused.
 *
 * A position is the time in µs, or one more than the last where that is not later. So positions rise within a session
 * also when Redis comes back without its last second: what is stored now is stored later than all that was lost.
 *
 * A sender that got no answer sends the same append again. What each of the last four senders did last stands in the
 * head (8 characters of name, number, position), so that it is done once and answered twice. A session has one owner:
 * four senders at once are more than there ever should be.
 */
export const APPEND = script(`${PRELUDE}${OPEN_STREAMS}
local sender, newEpoch, ttl, touches = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5] == '1'
local limit, count = tonumber(ARGV[6]), tonumber(ARGV[7])
local appends = (#ARGV - 7) / (count + 1)
local keys = #KEYS / appends
local FULL = HEAD .. 'c8c8I6I7'
local pack, unpackNumbers, sub, call = struct.pack, struct.unpack, string.sub, redis.call

local function push(log, position, first)
  if count == 1 then return call('RPUSH', log, pack('>I7', position) .. ARGV[first]) end
  local length
  for start = 0, count - 1, 1000 do
    local entries = {}
    for i = start, math.min(start + 999, count - 1) do
      entries[#entries + 1] = pack('>I7', position + i) .. ARGV[first + i]
    end
    length = call('RPUSH', log, unpack(entries))
  end
  return length
end

local function others(log, record, open) return record or log .. ':record', open or log .. ':open' end

-- An index that is used by every append is text: of a number the server would make text each time.
local function append(log, record, open, number, first)
  local touch = touches
  local fence, beyond, changes = string.match(ARGV[first], '^(%S+) (%d+)(.*)$')
  fence = tonumber(fence)
  local raw = call('LINDEX', log, '0')
  raw = raw and modern(raw)
  local last, floor, due, generation, expires, dies, streams, epoch, latest, done, where
  if raw and #raw > SENDERS then
    last, floor, due, generation, expires, dies, streams, epoch, latest, done, where = unpackNumbers(FULL, raw)
  elseif raw then
    last, floor, due, generation, expires, dies, streams, epoch = unpackNumbers(HEAD .. 'c8', raw)
  end
  local senders = ''
  if raw and expires > now then
    if latest == sender then
      senders = sub(raw, SENDERS + 21)
    else
      senders = sub(raw, SENDERS)
      local at = string.find(senders, sender, 1, true)
      if at then
        done, where = unpackNumbers('>I6I7', senders, at + 8)
        senders = sub(senders, 1, at - 1) .. sub(senders, at + 21)
      else
        done = nil
      end
    end
    if done == number then return where, epoch end
    if fence and generation ~= fence then return -1, integer(generation) end
  else
    if fence then return -2, '' end
    call('UNLINK', log, others(log, record, open))
    call('RPUSH', log, '')
    last, floor, due, generation, expires, dies, streams = 0, 0, 0, 0, 0, 0, 0
    epoch, touch = newEpoch, true
  end
  if due > 0 and due <= now then
    local _, position
    _, position, due = trim(log, 1000)
    floor = position or floor
  end
  local position = math.max(last + 1, beyond + 1, micros)
  if count > 0 then
    local events = push(log, position, first + 1) - 1
    if due == 0 then due = now + ttl end
    last = position + count - 1
    if limit and events > limit * 1.1 then
      call('LTRIM', log, events - limit, -1)
      floor = decode(call('LINDEX', log, '0')) or floor
      local _, expiry = decode(call('LINDEX', log, 1))
      due = expiry or due
    end
  end
  local extended = false
  if touch and now + ttl > expires then
    expires = now + ttl
    if expires > dies then dies, extended = slack(expires), true end
  end
  if changes ~= '' and (streams > 0 or string.find(changes, 'o', 1, true)) then
    local _, open = others(log, record, open)
    for n in string.gmatch(changes, '%d+') do
      streams = noteOpen(open, streams, ARGV[first + n], position + n - 1, dies)
    end
  end
  call('LSET', log, '0', pack(FULL, last, floor, due, generation, expires, dies, streams, epoch, sender, number, position)
    .. sub(senders, 1, 63))
  if extended then expireAt(dies, log, others(log, record, open)) end
  return position, epoch
end

local results, number = {}, tonumber(ARGV[3])
for i = 0, appends - 1 do
  local log, record, open = KEYS[keys * i + 1]
  if keys == 3 then record, open = KEYS[3 * i + 2], KEYS[3 * i + 3] end
  local ok, position, epoch = pcall(append, log, record, open, number + i, 8 + i * (count + 1))
  if not ok then
    position, epoch = -3, type(position) == 'table' and position.err or tostring(position)
  end
  results[2 * i + 1] = position
  results[2 * i + 2] = epoch
end
return results
`)
