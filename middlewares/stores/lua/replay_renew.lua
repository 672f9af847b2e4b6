-- Called while a request with an idempotency key runs.
-- ARGV: mark, milliseconds. Answers whether the key is still the owner's.
if not mine then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
