if redis.call('EXISTS', ACCOUNT) == 1 then
  redis.call('HDEL', ACCOUNT, 'known')
  changed()
end
return 0
