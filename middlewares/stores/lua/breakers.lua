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
  local level, pause, told = tonumber(ARGV[n + 2]), tonumber(ARGV[n + 3]), tonumber(ARGV[n + 4])
  local there = redis.call('HGET', KEYS[1], field)
  if there or redis.call('HLEN', KEYS[1]) < most then
    local place = there and cjson.decode(there) or {'-', 0, now, 0, '', 0, version}
    if change == 'o' or (want == '1' and place[1] == '-') then
      if place[1] ~= 'o' then place[2], place[3] = 0, 0 end
      place[1], place[7] = 'o', version
      place[2], place[3] = math.max(place[2], level), math.max(place[3], now + pause)
      place[5], place[6] = '', 0
    elseif change == 'c' then
      place = {'c', 0, now, place[4], '', 0, version}
    end
    if told == 0 then
      place[4], place[7] = 0, version
    elseif told > 0 then
      place[4], place[7] = math.max(place[4], now + told), version
    end
    if want == '1' and place[1] == 'o' and (place[5] == me or place[6] < now) then
      place[5], place[6] = me, now + lease
    end
    redis.call('HSET', KEYS[1], field, cjson.encode(place))
    redis.call('PEXPIRE', KEYS[1], keep)
  end
end

local answer = {}
local known = redis.call('HGETALL', KEYS[1])
for n = 1, #known, 2 do
  local place = cjson.decode(known[n + 1])
  local last = math.max(place[3], place[4], place[6])
  if last + keep / 2 < now or last > now + FAR then
    redis.call('HDEL', KEYS[1], known[n])
  else
    local mine = place[5] == me and 1 or 0
    answer[#answer + 1] = {
      known[n], place[1], place[2], place[3] - now, place[4] - now, mine, place[7]
    }
  end
end
return answer
