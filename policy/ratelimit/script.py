"""The decision as one Lua script that runs inside Valkey, atomically, for many requests at once.

    KEYS   the counters' keys, request after request
    ARGV   the time in milliseconds ("" for the server's own clock), then for each request the number of its counters
           and for each of these: length, limit, burst, need, charge, and the sum of 1 if enforced, 2 if it counts what
           is refused, and 4 times the number of its algorithm
    reply  the time, then for each counter: 1 if over else 0, and its state afterwards (three numbers)

A value is three decimal numbers: window, previous, current; of a log it is a list, each entry three numbers: time,
hits, total. The arithmetic is `policy.ratelimit.window`, `bucket` and `log`, which explain it; a differential test
holds the two together. With `#!lua` the server refuses the script before it starts when it is out of memory, so a batch
is never half written. Keys live a little longer than they must, each for another while: those of one window would
otherwise all expire at its end.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from policy.ratelimit import bucket, window
from policy.ratelimit.store import FIXED, GCRA, LOG, Counter, Reading, Taken
from policy.ratelimit.window import State

SPREAD: Final = 60_000
"""Milliseconds over which the keys of one window expire, at most a window."""

TEXT: Final = f"""#!lua
local SCALE, CEILING, CAPACITY = {window.SCALE}, {window.CEILING}, {bucket.LARGEST_CAPACITY}
local FIXED, LOG, GCRA, SPREAD = {FIXED}, {LOG}, {GCRA}, {SPREAD}
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function triple(stored)
  local a, b, c = string.match(stored or '', '^(%d+) (%d+) (%d+)$')
  if a then return tonumber(a), tonumber(b), tonumber(c) end
end

local function written(a, b, c)
  return string.format('%.0f %.0f %.0f', a, b, c)
end

local function store(key, a, b, c, life, length)
  redis.call('SET', key, written(a, b, c), 'PX', string.format('%.0f', life + now % math.min(length, SPREAD)))
end

-- the windows: over, and the state
local function windowed(key, length, limit, need, forgets)
  local at = math.floor(now / length)
  local w, p, c = triple(redis.call('GET', key))
  if not w then
    w, p, c = at, 0, 0
  else
    local ahead = w - at
    if ahead == -1 then w, p, c = at, c, 0
    elseif ahead < 0 then w, p, c = at, 0, 0
    elseif ahead > 1 then w = at end
  end
  if forgets then p = 0 end
  local elapsed = math.max(0, now - w * length)
  local fraction = math.ceil((length - elapsed) * SCALE / length)
  return math.ceil(p * fraction / SCALE) + c + need > limit, w, p, c
end

local function window_charged(key, w, p, c, length, charge)
  c = c + charge
  if c < 0 then p, c = math.max(0, p + c), 0 end
  c = math.min(c, CEILING)
  store(key, w, p, c, (w + 2) * length - now, length)
  return w, p, c
end

-- the leaky bucket
local function leaked(key, length, limit, burst, need)
  local at, _, level = triple(redis.call('GET', key))
  if not at then return need * length > burst * length, now, 0, 0 end
  local elapsed = now - at
  if elapsed < -length then at = now
  elseif elapsed >= 0 then at, level = now, math.max(0, level - elapsed * limit) end
  return level + need * length > burst * length, at, 0, level
end

local function bucket_charged(key, at, level, length, limit, charge)
  level = math.min(math.max(0, level + charge * length), CAPACITY)
  store(key, at, 0, level, math.max(0, at + math.ceil(level / limit) - now) + length, length)
  return at, 0, level
end

-- the log: times and totals rise along the list, so what is looked for in it is found by halving
local function first(key, wanted)
  local low, high = 0, redis.call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if wanted(triple(redis.call('LINDEX', key, middle))) then high = middle else low = middle + 1 end
  end
  return low
end

local function log_state(key, length, limit, need)
  local first_at, first_hits, first_total = triple(redis.call('LINDEX', key, 0))
  if not first_at then return need > limit and now + length or now, now, 0 end
  local last_at, _, total = triple(redis.call('LINDEX', key, -1))
  local base = first_total - first_hits
  local excess = total - base + need - limit
  local room = now
  if need > limit then
    room = now + length
  elseif excess > 0 then
    room = first_at + length
    if first_hits < excess then
      local place = first(key, function(_, _, sum) return sum - base >= excess end)
      room = triple(redis.call('LINDEX', key, place)) + length
    end
  end
  return room, last_at + length, total - base
end

local function logged(key, length, limit, need)
  local oldest = triple(redis.call('LINDEX', key, 0))
  if oldest and oldest <= now - length then
    redis.call('LTRIM', key, first(key, function(at) return at > now - length end), -1)
  end
  local last = triple(redis.call('LINDEX', key, -1))
  if last and last > now + length then
    local _, _, used = log_state(key, length, limit, 1)
    redis.call('DEL', key)
    redis.call('RPUSH', key, written(now, used, used))
    redis.call('PEXPIRE', key, 2 * length)
  end
  local room, empty, used = log_state(key, length, limit, 1)
  local over = need > 0 and used + need > limit
  if over then room = log_state(key, length, limit, need) end
  return over, room, empty, used
end

local function log_charged(key, length, limit, need, charge)
  local at, hits, total = triple(redis.call('LINDEX', key, -1))
  if charge > 0 then
    local added = math.min(charge, math.max(limit, 1))
    if at and at >= now then
      redis.call('LSET', key, -1, written(at, hits + added, total + added))
    else
      at = now
      redis.call('RPUSH', key, written(now, added, (total or 0) + added))
    end
    redis.call('PEXPIRE', key, string.format('%.0f', at - now + 2 * length))
  end
  local back = -charge
  while back > 0 and at do
    if hits > back then
      redis.call('LSET', key, -1, written(at, hits - back, total - back))
    else
      redis.call('RPOP', key)
    end
    back = back - hits
    at, hits, total = triple(redis.call('LINDEX', key, -1))
  end
  return log_state(key, length, limit, need)
end

local reply = {{now}}
local key, argument = 1, 2
while argument <= #ARGV do
  local count = tonumber(ARGV[argument])
  argument = argument + 1
  local refused = false
  local states = {{}}
  for i = 1, count do
    local length, limit, burst = tonumber(ARGV[argument]), tonumber(ARGV[argument + 1]), tonumber(ARGV[argument + 2])
    local need, charge, flags = tonumber(ARGV[argument + 3]), tonumber(ARGV[argument + 4]), tonumber(ARGV[argument + 5])
    local algorithm = math.floor(flags / 4)
    local name = KEYS[key + i - 1]
    local over, a, b, c
    if algorithm == GCRA then
      over, a, b, c = leaked(name, length, limit, burst, need)
    elseif algorithm == LOG then
      over, a, b, c = logged(name, length, limit, need)
    else
      over, a, b, c = windowed(name, length, limit, need, algorithm == FIXED)
    end
    over = over and need > 0
    if over and flags % 2 == 1 then refused = true end
    states[i] = {{over, a, b, c, length, limit, need, charge, algorithm, flags % 4 >= 2}}
    argument = argument + 6
  end
  for i = 1, count do
    local over, a, b, c, length, limit, need, charge, algorithm, counts_denied = unpack(states[i])
    local name = KEYS[key + i - 1]
    if charge ~= 0 and (need <= 0 or counts_denied or not (over or refused)) then
      if algorithm == GCRA then
        a, b, c = bucket_charged(name, a, c, length, limit, charge)
      elseif algorithm == LOG then
        a, b, c = log_charged(name, length, limit, over and need or 1, charge)
      else
        a, b, c = window_charged(name, a, b, c, length, charge)
      end
    end
    reply[#reply + 1] = over and 1 or 0
    reply[#reply + 1] = a
    reply[#reply + 1] = b
    reply[#reply + 1] = c
  end
  key = key + count
end
return reply
"""

SHA: Final = hashlib.sha1(TEXT.encode(), usedforsecurity=False).hexdigest()


def arguments(requests: Iterable[Sequence[Counter]], now: int | None) -> list[str | int]:
    """What follows EVALSHA and the digest: the number of keys, the keys, the arguments."""
    keys: list[str | int] = []
    values: list[str | int] = ["" if now is None else now]
    for counters in requests:
        values.append(len(counters))
        for counter in counters:
            keys.append(counter.key)
            values += (counter.length, counter.limit, counter.burst)
            flags = counter.enforced + 2 * counter.counts_denied + 4 * counter.algorithm
            values += (counter.need, counter.charge, flags)
    return [len(keys), *keys, *values]


def taken(reply: Sequence[int], requests: Iterable[Sequence[Counter]]) -> list[Taken]:
    """The reply, request by request. Raises ValueError when it does not have the promised length."""
    now, position, results = reply[0], 1, []
    for counters in requests:
        readings = []
        admitted = True
        for counter in counters:
            over, number, previous, current = reply[position : position + 4]
            position += 4
            admitted = admitted and not (over and counter.enforced)
            readings.append(Reading(bool(over), State(number, previous, current)))
        results.append(Taken(now, admitted, readings))
    if position != len(reply):
        raise ValueError(f"the script replied {len(reply)} numbers, not {position}")
    return results
