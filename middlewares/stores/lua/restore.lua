-- Called to set an unknown or stale account to what the ledger says.
-- ARGV: clock or '', seconds a settled hold is remembered, version that was seen, credits, epoch,
-- when a period may begin at the latest, number of windows, name, start (a double) and spent of each, then ids of holds the ledger has.
-- Answers 1, or 0 and does nothing when the version is another, or not every worker has reported its
-- holds in this epoch.
if number('version') ~= tonumber(ARGV[3]) or get('whole') ~= ARGV[5] then
  return 0
end
local now = clock(ARGV[1])
local latest, first = tonumber(ARGV[6]), 8 + 3 * tonumber(ARGV[7])
for i = first, #ARGV do
  if remove(ARGV[i]) then
    set('t:' .. ARGV[i], struct.pack('>d', now + ARGV[2]))
    ends(now + ARGV[2])
  end
end
local starts, records = {}, {}
local fields = redis.call('HGETALL', ACCOUNT)
for i = 1, #fields, 2 do
  local kind = fields[i]:sub(1, 2)
  if kind == 's:' or kind == 'w:' then
    redis.call('HDEL', ACCOUNT, fields[i])
  elseif kind == 'h:' then
    records[#records + 1] = fields[i + 1]
  end
end
local function begin(name, start, spent)
  local seconds = struct.unpack('>d', start)
  if seconds <= latest and (not starts[name] or starts[name] < seconds) then
    starts[name] = seconds
    redis.call('HSET', ACCOUNT, 's:' .. name, start, 'w:' .. name, spent)
  end
end
for i = 8, first - 1, 3 do
  begin(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
-- Periods of open holds may be newer than those of any row; they stay begun.
for _, record in ipairs(records) do
  local at = STARTS
  while at <= #record do
    local name
    name, at = struct.unpack('>s', record, at)
    begin(name, record:sub(at, at + 7), 0)
    at = at + 8
  end
end
redis.call('HSET', ACCOUNT, 'credits', ARGV[4], 'known', ARGV[5])
changed()
redis.call('EXPIRE', ACCOUNT, KEPT)
return 1
