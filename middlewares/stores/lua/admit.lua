-- Called at each rate-limited request, to take the slots and all rates of a principal, and of its
-- team if it has one, or nothing, and to read them.
-- KEYS: rates and leases, of each. ARGV: now or '', seconds a lease lives, lease, whether to take,
-- then of each its slots and how many rates it has, and of each rate its name and, as doubles,
-- count, seconds, burst and cost.
-- Answers, as doubles: which check lacks longest, counted over both (1...; -1, -2: a slot of the
-- principal, of the team; 0: none), for how many seconds, slots of the principal in use, which of
-- both lack (1: the principal, 2: the team, 3: both), and level and time of each rate.
local now = clock(ARGV[1])
local lifetime, lease, take = tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local claims, answer, lacking, wait, lack = {}, {''}, 0, 0, 0
local i, number = 5, 0

for n = 1, #KEYS / 2 do
  local claim = {rates = KEYS[2 * n - 1], leases = KEYS[2 * n], slots = tonumber(ARGV[i]), used = 0}
  local longest, lacks, count_ = 0, 0, tonumber(ARGV[i + 1])
  i = i + 2
  for _ = 1, count_ do
    local count, seconds, burst, cost = struct.unpack('>dddd', ARGV[i + 1])
    local speed, depth = count / seconds, count + burst
    local level, at, back = drained(redis.call('HGET', claim.rates, ARGV[i]), now, speed)
    if back then
      keep(claim.rates, ARGV[i], level, at, speed)
    end
    claim[#claim + 1] = {ARGV[i], level, at, speed, cost}
    number = number + 1
    local over = level + math.min(cost, depth) - depth
    if take and over > speed * GRAIN and over / speed > longest then
      lacks, longest = number, over / speed
    end
    i = i + 2
  end
  if claim.slots > 0 or not take then
    redis.call('ZREMRANGEBYSCORE', claim.leases, '-inf', string.format('%.6f', now))
    -- Taken before the clock was set back; those that still live are renewed.
    redis.call('ZREMRANGEBYSCORE', claim.leases, string.format('(%.6f', now + lifetime + STEP), '+inf')
    claim.used = redis.call('ZCARD', claim.leases)
    if
      take
      and claim.used >= claim.slots
      and longest < 1
      and not redis.call('ZSCORE', claim.leases, lease)
    then
      lacks, longest = -n, 1
    end
  end
  if lacks ~= 0 then
    lack = lack + n
  end
  if longest > wait then
    lacking, wait = lacks, longest
  end
  claims[n] = claim
end

for _, claim in ipairs(claims) do
  local longest = 0
  for _, rate in ipairs(claim) do
    if take and lacking == 0 then
      rate[2] = math.max(0, rate[2] + rate[5])
      longest = math.max(longest, rate[3] - now + keep(claim.rates, rate[1], rate[2], rate[3], rate[4]))
    end
    answer[#answer + 1] = struct.pack('>dd', rate[2], rate[3])
  end
  if take and lacking == 0 then
    if #claim > 0 then
      local left = redis.call('TTL', claim.rates)
      if left < math.min(longest, LONGEST) + GRACE / 2 then
        expire(claim.rates, longest)
      end
    end
    if claim.slots > 0 then
      redis.call('ZADD', claim.leases, string.format('%.6f', now + lifetime), lease)
      redis.call('EXPIRE', claim.leases, math.ceil(lifetime) + GRACE)
    end
  end
end

answer[1] = struct.pack('>dddd', lacking, wait, claims[1].used, lack)
return table.concat(answer)
