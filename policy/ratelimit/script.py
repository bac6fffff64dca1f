"""The decision as one Lua script that runs inside Valkey, atomically, for many requests at once.

    KEYS   the counters' keys, request after request
    ARGV   the time in milliseconds ("" for the server's own clock), then for each request the number of its counters
           and for each of these: length, limit, burst, need, charge, 1 if enforced else 0
    reply  the time, then for each counter: 1 if over else 0, and its state afterwards (window, previous, current)

A value is three decimal numbers: window, previous, current. The arithmetic is `policy.ratelimit.window` and, with a
burst, `policy.ratelimit.bucket`, which explain it; a differential test holds the two together. With `#!lua` the server
refuses the script before it starts when it is out of memory, so a batch is never half written.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from policy.ratelimit import window
from policy.ratelimit.store import Counter, Reading, Taken
from policy.ratelimit.window import State

TEXT: Final = f"""#!lua
local SCALE, CEILING = {window.SCALE}, {window.CEILING}
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function parsed(stored)
  local w, p, c = string.match(stored or '', '^(%d+) (%d+) (%d+)$')
  if w then return tonumber(w), tonumber(p), tonumber(c) end
end

local function rolled(stored, length)
  local at = math.floor(now / length)
  local w, p, c = parsed(stored)
  if not w then return at, 0, 0 end
  local ahead = w - at
  if ahead == 0 or ahead == 1 then return w, p, c end
  if ahead == -1 then return at, c, 0 end
  if ahead < 0 then return at, 0, 0 end
  return at, p, c
end

local function leaked(stored, length, limit)
  local at, _, level = parsed(stored)
  if not at then return now, 0, 0 end
  local elapsed = now - at
  if elapsed < -length then return now, 0, level end
  if elapsed < 0 then return at, 0, level end
  return now, 0, math.max(0, level - elapsed * limit)
end

-- over, and the state: of a sliding window, or of a leaky bucket
local function read(stored, length, limit, burst, need)
  if burst > 0 then
    local at, _, level = leaked(stored, length, limit)
    return level + need * length > burst * length, at, 0, level
  end
  local w, p, c = rolled(stored, length)
  local elapsed = math.max(0, now - w * length)
  local fraction = math.ceil((length - elapsed) * SCALE / length)
  return math.ceil(p * fraction / SCALE) + c + need > limit, w, p, c
end

-- the state after a charge, and the milliseconds for which it can matter
local function charged(w, p, c, length, limit, burst, charge)
  if burst > 0 then
    c = c + charge * length
    return c, math.max(0, w + math.ceil(c / limit) - now) + length
  end
  return math.min(c + charge, CEILING), (w + 2) * length - now
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
    local over, w, p, c = read(redis.call('GET', KEYS[key + i - 1]), length, limit, burst, tonumber(ARGV[argument + 3]))
    if over and ARGV[argument + 5] == '1' then refused = true end
    states[i] = {{over, w, p, c, length, limit, burst, tonumber(ARGV[argument + 4])}}
    argument = argument + 6
  end
  for i = 1, count do
    local over, w, p, c, length, limit, burst, charge = unpack(states[i])
    if charge > 0 and not over and not refused then
      local life
      c, life = charged(w, p, c, length, limit, burst, charge)
      redis.call('SET', KEYS[key + i - 1], string.format('%.0f %.0f %.0f', w, p, c), 'PX', string.format('%.0f', life))
    end
    reply[#reply + 1] = over and 1 or 0
    reply[#reply + 1] = w
    reply[#reply + 1] = p
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
            values += (counter.need, counter.charge, int(counter.enforced))
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
