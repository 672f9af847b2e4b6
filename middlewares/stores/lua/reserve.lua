-- Called before a request to set money aside.
-- ARGV: clock or '', seconds a hold lives, now, id, amount, least, whether credits may pay, epoch,
-- then of each window: name, cap, when the period of now began or '' (first use decides), its seconds.
-- Answers nothing when the account is unknown; a hold, also one that was there already; or, when
-- there is not enough, all fields.
local now, id = tonumber(ARGV[3]), ARGV[4]
local clocked = clock(ARGV[1])
sweep(clocked)
if get('known') ~= ARGV[8] then
  return false
end
local there = get('h:' .. id)
if there then
  return there
end
local amount, least = tonumber(ARGV[5]), math.max(tonumber(ARGV[6]), 1)
local prepaid, windows = ARGV[7] == '1', {}
local held, left = number('held:windows'), math.huge
for i = 9, #ARGV, 4 do
  local name, cap, begins = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local start, spent = get('s:' .. name), 0
  start = start and struct.unpack('>d', start)
  if start and start > now + AHEAD then
    -- The clock was set back: only the ledger knows the period of now.
    redis.call('HDEL', ACCOUNT, 'known')
    changed()
    return false
  end
  local runs = start and (begins and start >= begins or not begins and now < start + ARGV[i + 3])
  if runs then
    spent = number('w:' .. name)
  end
  windows[#windows + 1] = {name, runs and start or begins or now, runs}
  left = math.min(left, cap - spent - held)
end
if #windows == 0 and prepaid then
  left = -math.huge
end
local credits = prepaid and number('credits') - number('held:credits') or -math.huge
local needed = get('tight') and amount or math.min(amount, least)

local pays
if left >= amount or (credits < amount and left >= needed) then
  pays, left = 0, math.min(left, amount)
elseif credits >= needed then
  pays, left, windows = 1, math.min(credits, amount), {}
else
  return redis.call('HGETALL', ACCOUNT)
end

local record = {struct.pack(HOLD, 0, left, now, pays, left < amount and 1 or 0)}
for _, window in ipairs(windows) do
  local name, start = window[1], struct.pack('>d', window[2])
  if not window[3] then
    redis.call('HSET', ACCOUNT, 's:' .. name, start, 'w:' .. name, 0)
  end
  record[#record + 1] = struct.pack('>s', name) .. start
end
record = table.concat(record)
put(id, record, clocked + ARGV[2])
redis.call('EXPIRE', ACCOUNT, KEPT)
return record
