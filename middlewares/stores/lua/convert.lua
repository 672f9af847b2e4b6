-- Called after rows are written to the ledger: their holds become spent money.
-- ARGV: id and hold of each.
-- Answers a character for each: 1 when it was found, 0 when not.
local answer = {}
for i = 1, #ARGV, 2 do
  local id, record = ARGV[i], ARGV[i + 1]
  local _, amount, _, credits = struct.unpack(HOLD, record)
  local found = true
  if get('t:' .. id) then
    redis.call('HDEL', ACCOUNT, 't:' .. id)
  else
    changed()
    if not remove(id) then
      found = amount == 0
    elseif credits == 1 then
      add('credits', -amount)
    else
      local at = STARTS
      while at <= #record do
        local name
        name, at = struct.unpack('>s', record, at)
        local start, begun = record:sub(at, at + 7), get('s:' .. name)
        if begun == start then
          add('w:' .. name, amount)
        elseif not begun or struct.unpack('>d', begun) < struct.unpack('>d', start) then
          -- Not begun here: restored while the hold had lapsed, and no row named it.
          set('s:' .. name, start)
          set('w:' .. name, string.format('%.0f', amount))
        end
        at = at + 8
      end
    end
  end
  answer[#answer + 1] = found and '1' or '0'
end
if redis.call('TTL', ACCOUNT) == -1 then
  redis.call('EXPIRE', ACCOUNT, KEPT)
end
return table.concat(answer)
