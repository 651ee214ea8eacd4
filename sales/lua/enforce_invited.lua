--[[ Put the list of invited shoppers that was staged in force, in place of the one before.

KEYS[1] {sale:ID}:invited_by    string, TTL
KEYS[2] {sale:ID}:invited_next  set
KEYS[3] {sale:ID}:invited       set
KEYS[4] {sale:ID}:invited_list  string
KEYS[5] {sale:ID}:config        hash
KEYS[6] {sale:ID}:invited_before  set  the one before, for drain_invited
ARGV[1] maker                   as in stage_invited
ARGV[2] staged                  the sum of what stage_invited has returned
ARGV[3] version                 the list's, as SQL has it
ARGV[4] one_mailbox             1 when the digests are those of mailboxes, else 0
Returns 1; or 0, without writing, when it is not this maker's turn any more, when the set is not whole, or when the sale
asks for no invitation any more: the list would not be looked after.
]]
local identity = redis.call('HGET', KEYS[5], 'identity')
local count = redis.call('SCARD', KEYS[2])
if redis.call('GET', KEYS[1]) ~= ARGV[1] or count ~= tonumber(ARGV[2]) or identity and identity ~= 'invited' then
  return 0
end
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[6]) end
if count > 0 then redis.call('RENAME', KEYS[2], KEYS[3]) end
redis.call('SET', KEYS[4], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. count)
return 1
