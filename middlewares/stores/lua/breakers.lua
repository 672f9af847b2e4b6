-- Called by each worker to share broken targets with the others.
-- Broken targets that workers share. KEYS: a hash, a field for each target:
--   [state ('o' open, 'c' closed, '-' neither), level, open until, wait until, name of the worker
--    that probes, until when, version], as JSON; times in milliseconds of Unix time
-- ARGV: name of the worker, milliseconds that the hash is kept, milliseconds that a probe is leased,
-- most targets; then of each target with news: field, change ('o', 'c' or '-'), level, milliseconds
-- that it stays open, milliseconds that it asked to be left alone or -1, whether a probe is wanted.
-- Answers of each target: field, state, level, milliseconds left open, milliseconds left to wait,
-- whether the probe is the caller's, version.
local me, keep, lease, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local version = time[1] .. '.' .. time[2]
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local FAR = 86400000 -- written before the clock was set back: nothing lies so far ahead

for n = 5, #ARGV, 6 do
  local field, change, want = ARGV[n], ARGV[n + 1], ARGV[n + 5]
  local level, pause, deferred = tonumber(ARGV[n + 2]), tonumber(ARGV[n + 3]), tonumber(ARGV[n + 4])
  local there = redis.call('HGET', KEYS[1], field)
  if there or redis.call('HLEN', KEYS[1]) < most then
    local target = there and cjson.decode(there) or {'-', 0, now, 0, '', 0, version}
    if change == 'o' or (want == '1' and target[1] == '-') then
      if target[1] ~= 'o' then target[2], target[3] = 0, 0 end
      target[1], target[7] = 'o', version
      target[2], target[3] = math.max(target[2], level), math.max(target[3], now + pause)
      target[5], target[6] = '', 0
    elseif change == 'c' then
      target = {'c', 0, now, target[4], '', 0, version}
    end
    if deferred == 0 then
      target[4], target[7] = 0, version
    elseif deferred > 0 then
      target[4], target[7] = math.max(target[4], now + deferred), version
    end
    if want == '1' and target[1] == 'o' and (target[5] == me or target[6] < now) then
      target[5], target[6] = me, now + lease
    end
    redis.call('HSET', KEYS[1], field, cjson.encode(target))
    redis.call('PEXPIRE', KEYS[1], keep)
  end
end

local answer = {}
local known = redis.call('HGETALL', KEYS[1])
for n = 1, #known, 2 do
  local target = cjson.decode(known[n + 1])
  local last = math.max(target[3], target[4], target[6])
  if last + keep / 2 < now or last > now + FAR then
    redis.call('HDEL', KEYS[1], known[n])
  else
    local mine = target[5] == me and 1 or 0
    answer[#answer + 1] = {
      known[n], target[1], target[2], target[3] - now, target[4] - now, mine, target[7]
    }
  end
end
return answer
