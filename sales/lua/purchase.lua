--[[ Decide a batch of attempts to buy, in the order in which they came.

KEYS[1]   {sale:ID}:config     hash    starts_ms, ends_ms, paused, published, run_id, closed, has_barred, identity,
                                       one_mailbox; sets sold_out_ms
KEYS[2]   {sale:ID}:stock      string  units free
KEYS[3]   {sale:ID}:purchases  hash    user_id -> "order_id remaining_stock key_digest"
KEYS[4]   {sale:ID}:keys       set     digests of the idempotency keys that bought
KEYS[5]   {sale:ID}:orders     stream  user_id, remaining_stock, key_digest
KEYS[6]   {sale:ID}:barred     set     shoppers whose order was cancelled and who may not buy again
KEYS[7]   {sale:ID}:invited    set     digests of those who may buy when identity is invited
KEYS[8]   {sale:ID}:invited_list  string  "version one_mailbox count" of that set
KEYS[9..] {sale:ID}:ratelimit:USER  string  of each attempt in turn; none when attempts are not limited
ARGV[1]   run_id        this server's run, which is the one that was last compared with SQL, or nothing is decided
ARGV[2]   known_run     the run that holds all that the caller has answered, which is this one, too; "" for none yet
ARGV[3]   limit         attempts that a shopper may make in a period, all at once if they like
ARGV[4]   period_us     that period, in microseconds
ARGV[5..] user_id, key_digest  of each attempt in turn; "" stands for no idempotency key
Returns {outcome, order_id, number, attempts, seconds, ...} for each attempt in turn. number is the remaining stock, but
for rate_limited the milliseconds to wait; attempts is how many more the shopper may make at once, and one more in seconds.
Both are 0 when attempts are not limited. Fails before it writes: ARCHIVED, NOTMIRRORED, CLOSED, UNCHECKED or NOLIST.
]]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local config = redis.call('HMGET', KEYS[1], 'starts_ms', 'ends_ms', 'paused', 'published', 'run_id', 'closed',
  'has_barred', 'identity', 'one_mailbox')
local remaining = tonumber(redis.call('GET', KEYS[2]))
if config[4] ~= '1' or not remaining then
  if redis.call('HEXISTS', KEYS[1], 'archived') == 1 then return redis.error_reply('ARCHIVED SQL has the purchases') end
  return redis.error_reply('NOTMIRRORED the sale is not in Redis')
end
if config[6] then return redis.error_reply('CLOSED ' .. config[6]) end
if config[5] ~= ARGV[1] or ARGV[2] ~= '' and ARGV[2] ~= ARGV[1] then
  return redis.error_reply('UNCHECKED Redis has started again')
end
local is_by_invitation = config[8] == 'invited'
if is_by_invitation then
  local one_mailbox, count = (redis.call('GET', KEYS[8]) or ''):match('^%S+ (%S+) (%S+)$')
  if not count or one_mailbox ~= config[9] or tonumber(count) ~= redis.call('SCARD', KEYS[7]) then
    return redis.error_reply('NOLIST the list of invited shoppers is not in Redis')
  end
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

local is_stranger = {}
if is_by_invitation then
  local digests = {}
  for i, user in ipairs(users) do digests[i] = redis.sha1hex(user):sub(1, 24) end
  for i, invited in ipairs(redis.call('SMISMEMBER', KEYS[7], unpack(digests))) do
    is_stranger[users[i]] = invited == 0
  end
end

-- The generic cell rate algorithm (ITU-T I.371, annex A; ATM Forum, Traffic Management 4.0; for requests as here:
-- Brandur Leach, brandur.org/rate-limiting). An attempt takes one step of a shopper's time, and the theoretical arrival
-- time of the next may be ahead of now by as many steps as the limit has. First attempts, by far the most, end alike.
-- One that is further ahead is of a clock that was set back, and counts as none.
-- Kept out of the append-only file and replicas: it is worth less than the fsync that a refusal would then cost.
local wait_ms, attempts_left, more_in_seconds, arrivals = {}, {}, {}, {}
local limit, floor, ceil, call = tonumber(ARGV[3]), math.floor, math.ceil, redis.call
local step_us = math.max(1, floor(ARGV[4] / limit))
local most_ahead_us = limit * step_us
local first_arrival, first_ms = string.format('%.0f', now_us + step_us), ceil(step_us / 1000)
local arrivals_then = KEYS[9] and call('MGET', unpack(KEYS, 9)) or {}
redis.set_repl(redis.REPL_NONE)
for i, arrival_then in ipairs(arrivals_then) do
  local key = KEYS[8 + i]
  local ahead_us = (arrivals[key] or tonumber(arrival_then or 0)) - now_us
  if ahead_us <= 0 or ahead_us > most_ahead_us then
    arrivals[key] = now_us + step_us
    call('SET', key, first_arrival, 'PX', first_ms)
    attempts_left[i], more_in_seconds[i] = limit - 1, ceil(step_us / 1000000)
  else
    local spare_us = (limit - 1) * step_us - ahead_us
    if spare_us < 0 then
      wait_ms[i] = ceil(-spare_us / 1000)
      more_in_seconds[i] = ceil(-spare_us / 1000000)
    else
      arrivals[key] = now_us + ahead_us + step_us
      call('SET', key, string.format('%.0f', arrivals[key]), 'PX', ceil((ahead_us + step_us) / 1000))
      attempts_left[i] = floor(spare_us / step_us)
      more_in_seconds[i] = ceil((step_us - spare_us % step_us) / 1000000)
    end
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
  if is_stranger[user] then return 'not_invited', '', remaining end
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
  local n = 5 * i
  answers[n - 4], answers[n - 3], answers[n - 2] = outcome, order_id, number
  answers[n - 1], answers[n] = attempts_left[i] or 0, more_in_seconds[i] or 0
end
if #claims > 0 then
  redis.call('HSET', KEYS[3], unpack(claims))
  redis.call('SET', KEYS[2], remaining)
  if #keys_that_bought > 0 then redis.call('SADD', KEYS[4], unpack(keys_that_bought)) end
  if remaining == 0 then redis.call('HSET', KEYS[1], 'sold_out_ms', claims[#claims]:match('^%d+')) end
end
return answers
