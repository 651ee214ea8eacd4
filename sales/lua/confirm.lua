--[[ Note that Redis was compared with SQL in this run of the server, so that the sale goes on. Safe to repeat.

KEYS[1] {sale:ID}:config  hash
ARGV[1] run_id            the run that was compared
Returns 1; or 0 when somebody else has found in the same run that data is missing: then it stays closed.
]]
local closed = redis.call('HGET', KEYS[1], 'closed')
if closed and closed:sub(1, #ARGV[1]) == ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'closed')
redis.call('HSET', KEYS[1], 'run_id', ARGV[1])
return 1
