--[[ Mirror a sale's configuration, and set its stock to what is left of the total. Safe to repeat.

KEYS[1] {sale:ID}:config     hash
KEYS[2] {sale:ID}:stock      string
KEYS[3] {sale:ID}:purchases  hash
KEYS[4] {sale:ID}:orders     stream
ARGV[1] total_stock
ARGV[2] orders_in_sql        orders of this sale that SQL holds
ARGV[3] group                the consumer group that moves orders to SQL
ARGV[4..] field, value       the configuration
Returns {outcome, sold}. outcome is published; below_sold when more than total_stock units are sold;
or behind when Redis knows fewer purchases than SQL, so that a purchase could be sold again. Only published writes.
]]
local total, sold = tonumber(ARGV[1]), redis.call('HLEN', KEYS[3])
if sold < tonumber(ARGV[2]) then return {'behind', sold} end
if total < sold then return {'below_sold', sold} end

redis.call('HSET', KEYS[1], 'total_stock', total, unpack(ARGV, 4))
redis.call('SET', KEYS[2], total - sold)
if redis.call('EXISTS', KEYS[4]) == 0 or #redis.call('XINFO', 'GROUPS', KEYS[4]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[4], ARGV[3], '0', 'MKSTREAM')
end
return {'published', sold}
