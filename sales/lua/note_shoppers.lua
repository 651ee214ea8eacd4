--[[ Note who attempted to buy. Safe to repeat.

KEYS[1] {sale:ID}:config    hash
KEYS[2] {sale:ID}:shoppers  HyperLogLog
ARGV[1..] user_id ...
Returns 1; or 0, without writing, when the sale is not in Redis.
]]
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then return 0 end
-- Kept out of the append-only file, which every attempt would lengthen: the order writer keeps a copy in SQL.
redis.set_repl(redis.REPL_NONE)
redis.call('PFADD', KEYS[2], unpack(ARGV, 1))
return 1
