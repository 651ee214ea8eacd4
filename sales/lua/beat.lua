--[[ Note that a worker is alive, and forget those that are silent for long. Safe to repeat.

KEYS[1] {sales}:workers  hash  worker -> milliseconds since 1970
ARGV[1] worker
ARGV[2] forget_after_ms
Returns Redis's time in milliseconds since 1970.
]]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- Kept out of the append-only file: an idle worker costs no fsync.
redis.set_repl(redis.REPL_NONE)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now_ms))
local heard = redis.call('HGETALL', KEYS[1])
for i = 1, #heard, 2 do
  if now_ms - heard[i + 1] > tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], heard[i]) end
end
return now_ms
