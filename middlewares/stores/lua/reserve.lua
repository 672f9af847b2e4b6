-- Called before a request to set money aside.
-- KEYS: the account, and that of the team where both are limited.
-- ARGV: clock or '', seconds a hold lives, now, id, amount, least, epoch, then of each account: whether its
-- credits may pay, number of its windows, and of each: name, cap, when the period of now began or '' (first
-- use decides), its seconds.
-- Answers the number of an account that is unknown; or the hold, also one that was there already, of two
-- accounts a list of both, '' where the other account pays; or, when there is not enough, a list of all fields of
-- each.
-- The rule is that of counters/decision.py.
local now, id, amount = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local clocked, both = clock(ARGV[1]), KEYS[2]
local there, levels, enough, at = {}, {}, true, 8

for i = 1, both and 2 or 1 do
  ACCOUNT = KEYS[i]
  sweep(clocked)
  if get('known') ~= ARGV[7] then
    return i
  end
  there[i] = get('h:' .. id)
end
if there[1] and (not both or there[2]) then
  return both and there or there[1]
end

for i = 1, both and 2 or 1 do
  ACCOUNT = KEYS[i]
  if there[i] then
    remove(id) -- of an earlier call, after which the other account was lost
  end
  local held, left, windows = number('held:windows'), math.huge, {}
  local prepaid, last = ARGV[at] == '1', at + 1 + 4 * ARGV[at + 1]
  for w = at + 2, last, 4 do
    local name, cap, begins = ARGV[w], tonumber(ARGV[w + 1]), tonumber(ARGV[w + 2])
    local start, spent = get('s:' .. name), 0
    start = start and struct.unpack('>d', start)
    if start and start > now + AHEAD then
      -- The clock was set back: only the ledger knows the period of now.
      redis.call('HDEL', ACCOUNT, 'known')
      changed()
      return i
    end
    local runs = start and (begins and start >= begins or not begins and now < start + ARGV[w + 3])
    if runs then
      spent = number('w:' .. name)
    end
    windows[#windows + 1] = {name, runs and start or begins or now, runs}
    left = math.min(left, cap - spent - held)
  end
  if prepaid and #windows == 0 then
    left = -math.huge
  end
  enough = enough and left >= amount
  levels[i] = {left = left, prepaid = prepaid, windows = windows}
  at = last + 1
end

if not enough then
  local NONE, least = -math.huge, math.min(amount, math.max(tonumber(ARGV[6]), 1))
  for i, level in ipairs(levels) do
    ACCOUNT = KEYS[i]
    level.needed = get('tight') and amount or least
    level.credits = level.prepaid and number('credits') - number('held:credits') or NONE
  end

  -- Sets what a level sets aside, and from what: 0 its windows, 1 its credits, 2 nothing.
  local function share(level, pays, left)
    level.pays, level.share = pays, math.min(amount, left)
    return true
  end

  -- The share of a level while credits of the other pay.
  local function beside(level, wanted)
    if level.left >= amount then
      return share(level, 0, amount)
    elseif level.prepaid then
      return share(level, 2, amount)
    end
    return level.left >= wanted and share(level, 0, level.left)
  end

  local mine, theirs = levels[1], levels[2] or {left = math.huge, credits = NONE, needed = 0}
  local function decide(my_part, their_part)
    if mine.left >= my_part and theirs.left >= their_part then
      return share(mine, 0, mine.left) and share(theirs, 0, theirs.left)
    elseif mine.credits >= my_part and beside(theirs, their_part) then
      return share(mine, 1, mine.credits)
    end
    return theirs.credits >= their_part and beside(mine, my_part)
      and share(theirs, 1, theirs.credits)
  end
  enough = decide(amount, amount) or decide(mine.needed, theirs.needed)
end

local answer = {}
for i = 1, both and 2 or 1 do
  ACCOUNT = KEYS[i]
  local level = levels[i]
  if not enough then
    answer[i] = redis.call('HGETALL', ACCOUNT)
  elseif level.pays == 2 then
    answer[i] = ''
  else
    local pays, share = level.pays or 0, level.share or amount
    local record = {struct.pack(HOLD, 0, share, now, pays, share < amount and 1 or 0)}
    for _, window in ipairs(pays == 0 and level.windows or {}) do
      local name, start = window[1], struct.pack('>d', window[2])
      if not window[3] then
        redis.call('HSET', ACCOUNT, 's:' .. name, start, 'w:' .. name, 0)
      end
      record[#record + 1] = struct.pack('>s', name) .. start
    end
    answer[i] = table.concat(record)
    put(id, answer[i], clocked + ARGV[2])
    redis.call('EXPIRE', ACCOUNT, KEPT)
  end
end
return both and answer or enough and answer[1] or answer
