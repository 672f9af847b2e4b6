-- Called every 15 seconds to keep the slots of running requests.
-- KEYS: leases. ARGV: now or '', seconds a lease lives, leases.
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%.6f', now + ARGV[2]), ARGV[i])
end
redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[2]) + 60)
return 0
