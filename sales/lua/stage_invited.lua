--[[ Add some of the shoppers who are invited to the set that is to replace the sale's.

KEYS[1] {sale:ID}:invited_by    string, TTL  who makes that set
KEYS[2] {sale:ID}:invited_next  set
ARGV[1] maker
ARGV[2] keep_ms                 nobody else makes one for so long
ARGV[3..] digest ...
Returns how many of them the set had not; or -1, without writing, when it is not this maker's turn any more.
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('SADD', KEYS[2], unpack(ARGV, 3))
