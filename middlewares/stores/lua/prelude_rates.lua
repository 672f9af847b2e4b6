-- Prelude: put before each script about rates.
-- A rate is a field of a hash: two doubles, what was taken and has not drained, and as of
-- when. The same arithmetic as in counters/memory_rates.py.
local GRAIN, STEP = 1e-6, 60
-- Seconds that a key outlives its content: clocks of callers may run slower than Redis'.
local GRACE = 60
-- Seconds that a debt is remembered at most. EXPIRE takes no larger number as Lua writes it.
local LONGEST = 1e8

local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

-- Level, as of when, and whether the clock was set back, which has to be kept even on a refusal.
local function drained(packed, now, speed)
  if not packed then
    return 0, now
  end
  local level, at = struct.unpack('>dd', packed)
  local elapsed = now - at
  if elapsed > 0 then
    return math.max(0, level - elapsed * speed), now
  elseif elapsed < -STEP then
    return level, now, true
  end
  return level, at
end

local function keep(key, name, level, at, speed)
  redis.call('HSET', key, name, struct.pack('>dd', level, at))
  return level / speed
end

local function expire(key, seconds)
  redis.call('EXPIRE', key, math.ceil(math.min(seconds, LONGEST)) + GRACE)
end
