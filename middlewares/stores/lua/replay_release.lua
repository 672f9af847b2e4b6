if mine then redis.call('DEL', KEYS[1]) end
return 1
