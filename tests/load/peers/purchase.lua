--[[ Decide one attempt to buy: the rules of sales/lua/purchase.lua, as the peers call them, one attempt at a time.

KEYS[1] peer:config     hash    starts_ms, ends_ms, paused
KEYS[2] peer:stock      string  units free
KEYS[3] peer:purchases  hash    user_id -> "order_id key"
KEYS[4] peer:keys       set     idempotency keys that bought
KEYS[5] peer:orders     stream  user_id, key
ARGV[1] user_id
ARGV[2] idempotency key, "" without
Returns {outcome, order_id, remaining stock}.
]]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local config = redis.call('HMGET', KEYS[1], 'starts_ms', 'ends_ms', 'paused')
local remaining = tonumber(redis.call('GET', KEYS[2]))
local user, key = ARGV[1], ARGV[2]

local bought = redis.call('HGET', KEYS[3], user)
if bought then
  local order_id, key_then = bought:match('^(%S+) (.*)$')
  if key ~= '' and key == key_then then return {'replayed', order_id, remaining} end
  return {'already_purchased', order_id, remaining}
end
if key ~= '' and redis.call('SISMEMBER', KEYS[4], key) == 1 then return {'idempotency_key_reused', '', remaining} end
if now_ms < tonumber(config[1]) then return {'not_started', '', remaining} end
if now_ms >= tonumber(config[2]) then return {'ended', '', remaining} end
if config[3] == '1' then return {'paused', '', remaining} end
if remaining <= 0 then return {'sold_out', '', 0} end

local order_id = redis.call('XADD', KEYS[5], '*', 'user_id', user, 'key', key)
redis.call('HSET', KEYS[3], user, order_id .. ' ' .. key)
redis.call('SET', KEYS[2], remaining - 1)
if key ~= '' then redis.call('SADD', KEYS[4], key) end
return {'purchased', order_id, remaining - 1}
