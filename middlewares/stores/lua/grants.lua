-- Called by each worker to share looked-up keys with the others.
-- Grants that workers share. KEYS: a hash:
--   r, at    revision up to which it knows all changes of keys and teams, and when the store last said so
--   name     a new one each time it begins with nothing
--   g:DIGEST a key, as its worker packed it
--   k:ID     digests under which the key ID stands here, one behind the other
--   t:ID     a team, as its worker packed it; its keys are not taken without it
-- ARGV: revision of the caller, seconds since the store confirmed it, revision since which the caller
-- has seen all changes, whether what is there does not hold any more, most grants, seconds that it is
-- kept, a name, number of keys and teams that changed and their ids, number of teams and id and team
-- of each, then id, digest and key of each new grant.
-- Answers its name, or nothing when the caller is behind: then nothing was done.
local GRANTS = KEYS[1]
local DIGEST = 32
local t = redis.call('TIME')
local at = tonumber(t[1]) + tonumber(t[2]) / 1e6 - ARGV[2]
local since, covered, most = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[5])
local r, before, name = unpack(redis.call('HMGET', GRANTS, 'r', 'at', 'name'))
r = r and tonumber(r)
if r and since < r and ARGV[4] == '0' then
  return false
end
if not r or ARGV[4] == '1' or covered > r or redis.call('HLEN', GRANTS) > 3 * most then
  redis.call('DEL', GRANTS)
  r, before, name = nil, nil, ARGV[7]
end
at = math.max(at, tonumber(before or 0))
redis.call('HSET', GRANTS, 'r', ARGV[1], 'at', string.format('%.6f', at), 'name', name)
local first = 9 + tonumber(ARGV[8])
-- Others have sent those up to `r`, and may have sent a newer grant since.
for i = 9, r and since > r and first - 1 or 0 do
  local digests = redis.call('HGET', GRANTS, 'k:' .. ARGV[i]) or ''
  for d = 1, #digests, DIGEST do
    redis.call('HDEL', GRANTS, 'g:' .. digests:sub(d, d + DIGEST - 1))
  end
  redis.call('HDEL', GRANTS, 'k:' .. ARGV[i], 't:' .. ARGV[i])
end
local grants = first + 1 + 2 * tonumber(ARGV[first])
for i = first + 1, grants - 1, 2 do
  redis.call('HSET', GRANTS, 't:' .. ARGV[i], ARGV[i + 1])
end
for i = grants, #ARGV, 3 do
  local owner, digest = 'k:' .. ARGV[i], ARGV[i + 1]
  if redis.call('HSET', GRANTS, 'g:' .. digest, ARGV[i + 2]) == 1 then
    redis.call('HSET', GRANTS, owner, (redis.call('HGET', GRANTS, owner) or '') .. digest)
  end
end
redis.call('EXPIRE', GRANTS, ARGV[6])
return name
