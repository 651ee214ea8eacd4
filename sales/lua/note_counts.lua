--[[ Note what a worker has counted of a sale, one field for each second. A field is final: safe to repeat.

KEYS[1] {sale:ID}:config    hash
KEYS[2] {sale:ID}:attempts  hash
ARGV[1..] field, value      "second worker" and what it counted, in turn
Returns 1; or 0, without writing, when the sale is not in Redis: what ended, or is not restored yet, gets nothing.
]]
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 1))
return 1
