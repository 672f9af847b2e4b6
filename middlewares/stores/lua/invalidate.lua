-- Called to mark an account stale; the next request restores it from the ledger.
if redis.call('EXISTS', ACCOUNT) == 1 then
  redis.call('HDEL', ACCOUNT, 'known')
  changed()
end
return 0
