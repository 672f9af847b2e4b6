-- Called before a request to set money aside.
-- KEYS: the account, and that of the team where both are limited.
-- ARGV: clock or '', seconds a hold lives, now, id, amount, least, epoch, then of each account: whether its
-- credits may pay, number of its windows, and of each: name, cap, when the period of now began or '' (first
-- use decides), its seconds.
-- Answers the number of an account that is unknown; or the hold in each, also one that was there already, ''
-- where the other account pays; or, when there is not enough, all fields of each.
-- The rule is that of counters/decision.py.
local now, id = tonumber(ARGV[3]), ARGV[4]
local amount, least = tonumber(ARGV[5]), math.max(tonumber(ARGV[6]), 1)
local clocked = clock(ARGV[1])
local NONE = -math.huge
local levels, there = {}, {}

-- What the account has left under the budget that begins at `at`; nothing where it is unknown.
local function measure(at)
  local prepaid, windows = ARGV[at] == '1', {}
  local held, left = number('held:windows'), math.huge
  local last = at + 1 + 4 * ARGV[at + 1]
  for i = at + 2, last, 4 do
    local name, cap, begins = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local start, spent = get('s:' .. name), 0
    start = start and struct.unpack('>d', start)
    if start and start > now + AHEAD then
      -- The clock was set back: only the ledger knows the period of now.
      redis.call('HDEL', ACCOUNT, 'known')
      changed()
      return nil
    end
    local runs = start and (begins and start >= begins or not begins and now < start + ARGV[i + 3])
    if runs then
      spent = number('w:' .. name)
    end
    windows[#windows + 1] = {name, runs and start or begins or now, runs}
    left = math.min(left, cap - spent - held)
  end
  if #windows == 0 and prepaid then
    left = NONE
  end
  local credits = prepaid and number('credits') - number('held:credits') or NONE
  local needed = get('tight') and amount or math.min(amount, least)
  return {left = left, credits = credits, needed = needed, windows = windows, next = last + 1}
end

for i, key in ipairs(KEYS) do
  ACCOUNT = key
  sweep(clocked)
  if get('known') ~= ARGV[7] then
    return i
  end
  there[i] = get('h:' .. id)
end
if there[1] and there[#KEYS] then
  return there
end
local at = 8
for i, key in ipairs(KEYS) do
  ACCOUNT = key
  if there[i] then
    remove(id) -- of an earlier call, after which the other account was lost
  end
  local level = measure(at)
  if not level then
    return i
  end
  levels[i], at = level, level.next
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
  elseif level.credits > NONE then
    return share(level, 2, amount)
  end
  return level.left >= wanted and share(level, 0, level.left)
end

local function decide(mine, theirs)
  for _, whole in ipairs({true, false}) do
    local my_part = whole and amount or mine.needed
    local their_part = whole and amount or theirs.needed
    if mine.left >= my_part and theirs.left >= their_part then
      return share(mine, 0, mine.left) and share(theirs, 0, theirs.left)
    elseif mine.credits >= my_part and beside(theirs, their_part) then
      return share(mine, 1, mine.credits)
    elseif theirs.credits >= their_part and beside(mine, my_part) then
      return share(theirs, 1, theirs.credits)
    end
  end
end

local enough = decide(levels[1], levels[2] or {left = math.huge, credits = NONE, needed = 0})
local answer = {}
for i, key in ipairs(KEYS) do
  ACCOUNT = key
  local level = levels[i]
  if not enough then
    answer[i] = redis.call('HGETALL', ACCOUNT)
  else
    if level.pays == 2 then
      answer[i] = ''
    else
      local record = {
        struct.pack(HOLD, 0, level.share, now, level.pays, level.share < amount and 1 or 0)
      }
      if level.pays == 0 then
        for _, window in ipairs(level.windows) do
          local name, start = window[1], struct.pack('>d', window[2])
          if not window[3] then
            redis.call('HSET', ACCOUNT, 's:' .. name, start, 'w:' .. name, 0)
          end
          record[#record + 1] = struct.pack('>s', name) .. start
        end
      end
      answer[i] = table.concat(record)
      put(id, answer[i], clocked + ARGV[2])
    end
    redis.call('EXPIRE', ACCOUNT, KEPT)
  end
end
return answer
