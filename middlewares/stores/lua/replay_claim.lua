-- Called before a request with an idempotency key.
-- ARGV: mark, milliseconds. Answers what stands there, or nothing where the key was free. What the
-- owner has claimed before is free for it.
if there ~= '' and not mine then return redis.call('GET', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return nil
