-- All fields. ARGV: clock or '', and whether a version is wanted where there is none.
sweep(clock(ARGV[1]))
if ARGV[2] == '1' and not get('version') then
  changed()
  redis.call('EXPIRE', ACCOUNT, KEPT)
end
return redis.call('HGETALL', ACCOUNT)
