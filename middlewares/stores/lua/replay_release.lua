-- Called when a request with an idempotency key left no answer to keep.
if mine then redis.call('DEL', KEYS[1]) end
return 1
