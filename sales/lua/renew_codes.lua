--[[ Give an e-mail address codes, or those that it has once more; but another one to type where the tries are used up.

KEYS[1] codes:ADDRESS  hash     nonce, typed, tries
ARGV[1] nonce          that no other code is made of
ARGV[2] most_tries
ARGV[3] valid_seconds
Returns {nonce of the link's code, nonce of the code to type}
]]
redis.call('HSETNX', KEYS[1], 'nonce', ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'tries') or 0) >= tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'typed', ARGV[1], 'tries', 0)
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
local found = redis.call('HMGET', KEYS[1], 'nonce', 'typed')
return {found[1], found[2] or found[1]}
