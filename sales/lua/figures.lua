--[[ Read the figures of a sale, all of them of one moment. Writes nothing.

KEYS[1] {sale:ID}:config     hash
KEYS[2] {sale:ID}:stock      string
KEYS[3] {sale:ID}:purchases  hash
Returns {remaining_stock, sold, total_stock, is_paused, is_closed}; {} when the sale is not in Redis as it was published.
]]
local config = redis.call('HMGET', KEYS[1], 'published', 'total_stock', 'paused', 'closed', 'archived', 'sold')
local stock, sold = redis.call('GET', KEYS[2]), redis.call('HLEN', KEYS[3])
if config[5] then
  sold = tonumber(config[6])
  stock = math.max(0, config[2] - sold)
end
if config[1] ~= '1' or not config[2] or not stock then return {} end
local is_closed = config[4] and config[4] ~= '' and 1 or 0
return {tonumber(stock), sold, tonumber(config[2]), config[3] == '1' and 1 or 0, is_closed}
