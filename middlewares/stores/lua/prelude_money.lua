-- Prelude: put before each script about money.
-- An account is one hash, KEYS[1], so that it is lost as a whole or not at all:
--   known                  the epoch (register_worker.lua) in which it was restored; absent when it
--                          is stale
--   whole                  the epoch in which every worker has reported its holds
--   version                changes with each conversion; begins with the time in microseconds, so
--                          that no number comes back after a loss
--   born                   the first version: another one after a loss
--   credits                nano-credits, an integer in text: HINCRBY is exact where doubles end
--   held:windows, :credits nano-credits
--   tight                  id of the tight hold
--   s:NAME, w:NAME         start (a double) and what is spent of the window NAME
--   h:ID                   a hold: until, amount and at (doubles), credits and tight (bytes), then
--                          name and start of each window
--   t:ID                   until when a hold is remembered that a restoration has settled
--   next                   Unix seconds before which none of them ends
local ACCOUNT = KEYS[1]
local HOLD = '>dddBB'
local STARTS = 27 -- where they begin in a hold
local KEPT = 3600 -- seconds that an idle account stays
local AHEAD = 300 -- as in counters/base.py

local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function get(field)
  return redis.call('HGET', ACCOUNT, field)
end

local function set(field, value)
  redis.call('HSET', ACCOUNT, field, value)
end

local function add(field, amount)
  if amount == 0 then
    return
  end
  local change = string.format('%.0f', amount)
  local sum = redis.pcall('HINCRBY', ACCOUNT, field, change)
  if type(sum) ~= 'table' then
    return
  end
  -- A sum beyond 64 bits ends there: no row may make an account unreadable.
  if sum.err:find('overflow', 1, true) or sum.err:find('out of range', 1, true) then
    set(field, amount > 0 and '9223372036854775807' or '-9223372036854775807')
  else
    redis.call('HINCRBY', ACCOUNT, field, change) -- fails again, and ends the script
  end
end

local function number(field)
  return tonumber(get(field) or 0)
end

local function changed()
  if not get('version') then
    local t = redis.call('TIME')
    local born = t[1] .. string.format('%06d', t[2])
    redis.call('HSET', ACCOUNT, 'version', born, 'born', born)
  end
  redis.call('HINCRBY', ACCOUNT, 'version', 1)
end

local function purse(credits)
  return credits == 1 and 'held:credits' or 'held:windows'
end

local function remove(id)
  local hold = get('h:' .. id)
  if not hold then
    return nil
  end
  local _, amount, _, credits = struct.unpack(HOLD, hold)
  add(purse(credits), -amount)
  redis.call('HDEL', ACCOUNT, 'h:' .. id)
  if get('tight') == id then
    redis.call('HDEL', ACCOUNT, 'tight')
  end
  return hold
end

local function ends(until_)
  local next_ = get('next')
  if not next_ or until_ < tonumber(next_) then
    set('next', string.format('%.6f', until_))
  end
end

-- Sets what is there of the hold `record`, or makes it. Its `until` is set here.
local function put(id, record, until_)
  local _, amount, at, credits, tight = struct.unpack(HOLD, record)
  local old = get('h:' .. id)
  if old then
    local _, before, _, purse_ = struct.unpack(HOLD, old)
    add(purse(purse_), -before)
  end
  add(purse(credits), amount)
  set('h:' .. id, struct.pack(HOLD, until_, amount, at, credits, tight) .. record:sub(STARTS))
  if tight == 1 then
    set('tight', id)
  elseif get('tight') == id then
    redis.call('HDEL', ACCOUNT, 'tight')
  end
  if not old then
    ends(until_)
  end
  return old
end

-- Ends the holds whose time is over. Only the ledger knows what became of their requests, so the
-- account has to be restored.
local function sweep(now)
  local next_ = get('next')
  if not next_ or (now < tonumber(next_) and tonumber(next_) < now + AHEAD) then
    return
  end
  local fields = redis.call('HGETALL', ACCOUNT)
  redis.call('HDEL', ACCOUNT, 'next')
  for i = 1, #fields, 2 do
    local kind = fields[i]:sub(1, 2)
    if kind == 'h:' or kind == 't:' then
      local until_ = struct.unpack('>d', fields[i + 1])
      if until_ > now + AHEAD then
        -- The clock was set back: no hold lives so long without a renewal.
        set(fields[i], struct.pack('>d', now + AHEAD / 2) .. fields[i + 1]:sub(9))
        ends(now + AHEAD / 2)
      elseif until_ > now then
        ends(until_)
      elseif kind == 'h:' then
        remove(fields[i]:sub(3))
        redis.call('HDEL', ACCOUNT, 'known')
        changed()
      else
        redis.call('HDEL', ACCOUNT, fields[i])
      end
    end
  end
end
