-- Called when a request with an idempotency key was answered.
-- ARGV: answer, milliseconds. Answers whether it is kept: not over what is another's.
if not mine and there ~= '' then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
