-- Called when a request has ended, and every 15 seconds to keep the holds of running ones.
-- Sets holds to what their process reports, and makes those that are not there.
-- ARGV: clock or '', seconds a hold lives, whether they are new facts (a request has ended) or are
-- only renewed, then id and hold of each.
local now = clock(ARGV[1])
local ended = ARGV[3] == '1'
for i = 4, #ARGV, 2 do
  local id, record = ARGV[i], ARGV[i + 1]
  local _, amount = struct.unpack(HOLD, record)
  local settled = get('t:' .. id)
  if settled and not ended then
    set('t:' .. id, struct.pack('>d', now + ARGV[2]))
  elseif not settled and (amount > 0 or get('h:' .. id)) and not put(id, record, now + ARGV[2]) then
    -- It may be in the ledger, and be asked for, before a restoration that did not know of it.
    changed()
  end
end
if redis.call('EXISTS', ACCOUNT) == 1 then
  redis.call('EXPIRE', ACCOUNT, KEPT)
end
return 0
