--[[ Mirror a sale's configuration, and set its stock to what is left of the total. Safe to repeat.

KEYS[1] {sale:ID}:config     hash
KEYS[2] {sale:ID}:stock      string
KEYS[3] {sale:ID}:purchases  hash
KEYS[4] {sale:ID}:orders     stream
ARGV[1] total_stock
ARGV[2] epoch                the sale's, as SQL has it
ARGV[3] is_first             1 when SQL knows of no earlier publication
ARGV[4] orders_in_sql        orders of this sale that SQL holds, without the cancelled ones
ARGV[5] run_id               this server's run; noted at the first publication, when there is nothing to check
ARGV[6] group                the consumer group that moves orders to SQL
ARGV[7..] field, value       the configuration
Returns {outcome, sold}. outcome is published; below_sold when more than total_stock units are sold; or lost when Redis
does not hold what SQL says was published here: another epoch, none, or fewer purchases. Only published writes.
]]
local total, sold = tonumber(ARGV[1]), redis.call('HLEN', KEYS[3])
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and epoch ~= ARGV[2] or not epoch and ARGV[3] ~= '1' or sold < tonumber(ARGV[4]) then return {'lost', sold} end
if total < sold then return {'below_sold', sold} end

if not epoch then redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'run_id', ARGV[5]) end
redis.call('HSET', KEYS[1], 'total_stock', total, unpack(ARGV, 7))
redis.call('SET', KEYS[2], total - sold)
if redis.call('EXISTS', KEYS[4]) == 0 or #redis.call('XINFO', 'GROUPS', KEYS[4]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[4], ARGV[6], '0', 'MKSTREAM')
end
return {'published', sold}
