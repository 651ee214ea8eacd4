--[[ Open a sale that was restored: its stock is what is left of the total. Safe to repeat.

KEYS[1] {sale:ID}:config     hash
KEYS[2] {sale:ID}:stock      string
KEYS[3] {sale:ID}:purchases  hash
ARGV[1] total_stock
ARGV[2] orders_in_sql        orders of this sale that SQL holds, without the cancelled ones
ARGV[3] newest_ms            when the newest order was made; "" without one
ARGV[4..] field, value       the configuration, with epoch and run_id
Returns {outcome, sold}. outcome is open; or lost, without writing, when there are fewer purchases than orders: what was
given to Redis is gone again.
]]
local total, sold = tonumber(ARGV[1]), redis.call('HLEN', KEYS[3])
if sold < tonumber(ARGV[2]) then return {'lost', sold} end

redis.call('SET', KEYS[2], math.max(0, total - sold))
redis.call('HSET', KEYS[1], 'total_stock', total, unpack(ARGV, 4))
if sold >= total and ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'sold_out_ms', ARGV[3]) end
redis.call('HDEL', KEYS[1], 'closed', 'archived', 'sold')
return {'open', sold}
