-- Called to read an account, and before it is restored from the ledger.
-- Answers all fields. ARGV: clock or '', whether a version is wanted where there is none, `born` as the caller
-- has seen it, and an epoch: where the account is still the one that was born then, every worker has
-- reported its holds in that epoch.
sweep(clock(ARGV[1]))
if ARGV[2] == '1' and not get('born') then
  changed()
  set('born', get('version')) -- of an account that an earlier version of this program made
  redis.call('EXPIRE', ACCOUNT, KEPT)
end
if ARGV[4] and get('born') == ARGV[3] then
  set('whole', ARGV[4])
end
return redis.call('HGETALL', ACCOUNT)
