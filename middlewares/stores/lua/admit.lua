-- Called at each rate-limited request, to take a slot and all rates or nothing, and to read them.
-- KEYS: rates, leases. ARGV: now or '', seconds a lease lives, slots, lease, whether to take, then
-- of each rate its name and, as doubles, count, seconds, burst and cost.
-- Answers, as doubles: which check lacks (1...; -1: a slot; 0: none), for how many seconds,
-- slots in use, and level and time of each rate.
local now = clock(ARGV[1])
local lifetime, slots, lease, take = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1'
local rates, lacking, wait = {}, 0, 0
for i = 6, #ARGV, 2 do
  local count, seconds, burst, cost = struct.unpack('>dddd', ARGV[i + 1])
  local speed, depth = count / seconds, count + burst
  local level, at, back = drained(redis.call('HGET', KEYS[1], ARGV[i]), now, speed)
  if back then
    keep(ARGV[i], level, at, speed)
  end
  rates[#rates + 1] = {ARGV[i], level, at, speed, cost}
  local over = level + math.min(cost, depth) - depth
  if take and over > speed * GRAIN and over / speed > wait then
    lacking, wait = #rates, over / speed
  end
end

local used = 0
if slots > 0 or not take then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now))
  -- Taken before the clock was set back; those that still live are renewed.
  redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.6f', now + lifetime + STEP), '+inf')
  used = redis.call('ZCARD', KEYS[2])
  if take and used >= slots and wait < 1 and not redis.call('ZSCORE', KEYS[2], lease) then
    lacking, wait = -1, 1
  end
end

if take and lacking == 0 then
  local longest = 0
  for _, rate in ipairs(rates) do
    rate[2] = math.max(0, rate[2] + rate[5])
    longest = math.max(longest, rate[3] - now + keep(rate[1], rate[2], rate[3], rate[4]))
  end
  if #rates > 0 then
    local left = redis.call('TTL', KEYS[1])
    if left < math.min(longest, LONGEST) + GRACE / 2 then
      expire(longest)
    end
  end
  if slots > 0 then
    redis.call('ZADD', KEYS[2], string.format('%.6f', now + lifetime), lease)
    redis.call('EXPIRE', KEYS[2], math.ceil(lifetime) + GRACE)
  end
end

local answer = {struct.pack('>ddd', lacking, wait, used)}
for i, rate in ipairs(rates) do
  answer[i + 1] = struct.pack('>dd', rate[2], rate[3])
end
return table.concat(answer)
