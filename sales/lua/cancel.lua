--[[ Take cancelled orders out of a sale, so that their units are for sale again. Safe to repeat.

KEYS[1]   {sale:ID}:config     hash
KEYS[2]   {sale:ID}:stock      string
KEYS[3]   {sale:ID}:purchases  hash
KEYS[4]   {sale:ID}:keys       set
KEYS[5]   {sale:ID}:barred     set
ARGV[1]   epoch                the sale's, as SQL has it; "" while it is being restored
ARGV[2..] user_id, order_id, may_buy_again  of each order in turn; may_buy_again is 1 or 0
Returns {outcome, count}. outcome is cancelled, with the number of purchases that were still there; or lost, with that
of all purchases, when Redis holds the sale in another epoch or not at all. Only cancelled writes.
]]
local config = redis.call('HMGET', KEYS[1], 'epoch', 'total_stock')
if ARGV[1] ~= '' and config[1] ~= ARGV[1] then return {'lost', redis.call('HLEN', KEYS[3])} end

local freed, has_barred = 0, false
for i = 2, #ARGV, 3 do
  local user, order_id, may_buy_again = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local purchase = redis.call('HGET', KEYS[3], user)
  if purchase and purchase:match('^%S+') == order_id then
    redis.call('HDEL', KEYS[3], user)
    local key_digest = purchase:match('^%S+ %S+ (.+)$')
    if key_digest then redis.call('SREM', KEYS[4], key_digest) end
    freed = freed + 1
  end
  if may_buy_again == '0' then
    redis.call('SADD', KEYS[5], user)
    has_barred = true
  end
end
if has_barred then redis.call('HSET', KEYS[1], 'has_barred', 1) end
-- From what is sold, not one more than before: it cannot be counted twice, nor while more are sold than there are.
if freed > 0 and config[2] then redis.call('SET', KEYS[2], math.max(0, config[2] - redis.call('HLEN', KEYS[3]))) end
return {'cancelled', freed}
