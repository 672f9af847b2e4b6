-- Called after a request to correct a rate by what it used in fact.
-- KEYS: rates. ARGV: now or '', name, and count, seconds, burst and cost as doubles.
local now = clock(ARGV[1])
local count, seconds, _, cost = struct.unpack('>dddd', ARGV[3])
local speed = count / seconds
local level, at = drained(redis.call('HGET', KEYS[1], ARGV[2]), now, speed)
local full = keep(KEYS[1], ARGV[2], math.max(0, level + cost), at, speed)
if redis.call('TTL', KEYS[1]) < math.min(at - now + full, LONGEST) + GRACE / 2 then
  expire(KEYS[1], at - now + full)
end
return 0
