-- Called by each worker at its start, several times a second and at its end.
-- Registers a worker; answers the live workers and since when no data was lost. KEYS: the hash of workers:
--   epoch   name of the time since which Redis has lost nothing; accounts are known within it
--   run     run_id of the Redis in which it began, '' if unknown
--   since   when it began, by the clock of Redis
--   w:ID    until when a worker counts as alive
-- ARGV: id, seconds a worker counts as alive, run_id or '', name for a new epoch, the epoch that the
-- caller knows or '', whether it leaves, then ids of workers that the caller has seen alive.
-- Answers epoch, its age in seconds, whether the caller was registered, and ids of the others.
local WORKERS = KEYS[1]
local KEPT = 3600 -- seconds that it outlives the last worker
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local me, run, new, known = 'w:' .. ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local until_ = string.format('%.6f', now + ARGV[2])

local epoch, before = unpack(redis.call('HMGET', WORKERS, 'epoch', 'run'))
if not epoch or (run ~= '' and before ~= '' and before ~= run) then
  -- Lost, or a copy of another Redis' data: what is there may be from before the last changes.
  redis.call('DEL', WORKERS)
  epoch = new
  redis.call('HSET', WORKERS, 'epoch', new, 'run', run, 'since', string.format('%.6f', now))
elseif run ~= before and run ~= '' then
  redis.call('HSET', WORKERS, 'run', run)
end
local there = redis.call('HEXISTS', WORKERS, me)
if epoch ~= known or there == 0 then
  for i = 7, #ARGV do
    redis.call('HSETNX', WORKERS, 'w:' .. ARGV[i], until_)
  end
end
if ARGV[6] == '1' then
  redis.call('HDEL', WORKERS, me)
else
  redis.call('HSET', WORKERS, me, until_)
end
redis.call('EXPIRE', WORKERS, KEPT)

local since = tonumber(redis.call('HGET', WORKERS, 'since')) or now
local answer = {epoch, string.format('%.6f', now - since), there}
local fields = redis.call('HGETALL', WORKERS)
for i = 1, #fields, 2 do
  local field = fields[i]
  if field:sub(1, 2) == 'w:' and field ~= me then
    local left = tonumber(fields[i + 1]) - now
    if left < 0 or left > 60 + ARGV[2] then -- expired, or written before the clock was set back
      redis.call('HDEL', WORKERS, field)
    else
      answer[#answer + 1] = field:sub(3)
    end
  end
end
return answer
