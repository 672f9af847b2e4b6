-- Prelude: put before each script about replays.
-- An answer kept under its idempotency key. KEYS: the key:
--   "r" owner fingerprint    its request runs; "R" when its answer is too large to be kept
--   "k" fingerprint answer   kept
-- ARGV of all: owner.
local there = redis.call('GETRANGE', KEYS[1], 0, 32)
local kind = string.sub(there, 1, 1)
local mine = (kind == 'r' or kind == 'R') and string.sub(there, 2) == ARGV[1]
