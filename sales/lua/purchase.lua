--[[ Decide a batch of attempts to buy, in the order in which they came.

KEYS[1]   {sale:ID}:config     hash    starts_ms, ends_ms, paused, published, run_id, closed, has_barred; sets sold_out_ms
KEYS[2]   {sale:ID}:stock      string  units free
KEYS[3]   {sale:ID}:purchases  hash    user_id -> "order_id remaining_stock key_digest"
KEYS[4]   {sale:ID}:keys       set     digests of the idempotency keys that bought
KEYS[5]   {sale:ID}:orders     stream  user_id, remaining_stock, key_digest
KEYS[6]   {sale:ID}:barred     set     shoppers whose order was cancelled and who may not buy again
KEYS[7..] {sale:ID}:ratelimit:USER  string  of each attempt in turn; none when attempts are not limited
ARGV[1]   run_id        this server's run, which is the one that was last compared with SQL, or nothing is decided
ARGV[2]   known_run     the run that holds all that the caller has answered, which is this one, too; "" for none yet
ARGV[3]   limit         attempts that a shopper may make in a period, all at once if they like
ARGV[4]   period_us     that period, in microseconds
ARGV[5..] user_id, key_digest  of each attempt in turn; "" stands for no idempotency key
Returns {outcome, order_id, number, ...} for each attempt in turn. number is the remaining stock, but for
rate_limited the milliseconds to wait. Fails before it writes: NOTMIRRORED, CLOSED or UNCHECKED.
]]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local config = redis.call('HMGET', KEYS[1], 'starts_ms', 'ends_ms', 'paused', 'published', 'run_id', 'closed', 'has_barred')
local remaining = tonumber(redis.call('GET', KEYS[2]))
if config[4] ~= '1' or not remaining then return redis.error_reply('NOTMIRRORED the sale is not in Redis') end
if config[6] then return redis.error_reply('CLOSED ' .. config[6]) end
if config[5] ~= ARGV[1] or ARGV[2] ~= '' and ARGV[2] ~= ARGV[1] then
  return redis.error_reply('UNCHECKED Redis has started again')
end
local refusal = now_us < config[1] * 1000 and 'not_started' or now_us >= config[2] * 1000 and 'ended'
  or config[3] == '1' and 'paused'

local users, keys = {}, {}
for i = 5, #ARGV, 2 do
  users[#users + 1] = ARGV[i]
  keys[#keys + 1] = ARGV[i + 1]
end
local purchases, key_bought, is_barred = {}, {}, {}
for i, purchase in ipairs(redis.call('HMGET', KEYS[3], unpack(users))) do
  purchases[users[i]] = purchase
end
for i, bought in ipairs(redis.call('SMISMEMBER', KEYS[4], unpack(keys))) do
  key_bought[keys[i]] = bought == 1 and keys[i] ~= ''
end
if config[7] then
  for i, barred in ipairs(redis.call('SMISMEMBER', KEYS[6], unpack(users))) do
    is_barred[users[i]] = barred == 1
  end
end

-- The generic cell rate algorithm: a shopper's theoretical arrival time may run ahead of now by one period.
-- Kept out of the append-only file and replicas: it is worth less than the fsync that a refusal would then cost.
local wait_ms, arrivals, period_us = {}, {}, tonumber(ARGV[4])
local step_us, max, ceil, call = math.floor(period_us / ARGV[3]), math.max, math.ceil, redis.call
local arrivals_then = KEYS[7] and call('MGET', unpack(KEYS, 7)) or {}
redis.set_repl(redis.REPL_NONE)
for i, arrival_then in ipairs(arrivals_then) do
  local key = KEYS[6 + i]
  local arrival_us = max(arrivals[key] or tonumber(arrival_then or 0), now_us) + step_us
  if arrival_us - now_us > period_us then
    wait_ms[i] = ceil((arrival_us - now_us - period_us) / 1000)
  else
    arrivals[key] = arrival_us
    call('SET', key, string.format('%.0f', arrival_us), 'PX', ceil((arrival_us - now_us) / 1000))
  end
end
redis.set_repl(redis.REPL_ALL)

local claims, keys_that_bought = {}, {}
local function decide(user, key)
  if purchases[user] then
    local order_id, remaining_then, key_then = purchases[user]:match('^(%S+) (%S+) (.*)$')
    if key ~= '' and key == key_then then return 'replayed', order_id, tonumber(remaining_then) end
    if key_bought[key] then return 'idempotency_key_reused', '', remaining end
    return 'already_purchased', order_id, remaining
  end
  if key_bought[key] then return 'idempotency_key_reused', '', remaining end
  if is_barred[user] then return 'order_cancelled', '', remaining end
  if refusal then return refusal, '', remaining end
  if remaining <= 0 then return 'sold_out', '', 0 end
  remaining = remaining - 1
  local order_id = redis.call('XADD', KEYS[5], '*', 'user_id', user, 'remaining_stock', remaining, 'key_digest', key)
  purchases[user] = order_id .. ' ' .. remaining .. ' ' .. key
  claims[#claims + 1] = user
  claims[#claims + 1] = purchases[user]
  if key ~= '' then
    key_bought[key] = true
    keys_that_bought[#keys_that_bought + 1] = key
  end
  return 'purchased', order_id, remaining
end

local answers = {}
for i, user in ipairs(users) do
  local outcome, order_id, number = 'rate_limited', '', wait_ms[i]
  if not number then outcome, order_id, number = decide(user, keys[i]) end
  answers[#answers + 1] = outcome
  answers[#answers + 1] = order_id
  answers[#answers + 1] = number
end
if #claims > 0 then
  redis.call('HSET', KEYS[3], unpack(claims))
  redis.call('SET', KEYS[2], remaining)
  if #keys_that_bought > 0 then redis.call('SADD', KEYS[4], unpack(keys_that_bought)) end
  if remaining == 0 then redis.call('HSET', KEYS[1], 'sold_out_ms', claims[#claims]:match('^%d+')) end
end
return answers
