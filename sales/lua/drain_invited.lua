--[[ Empty some of a set that nobody asks any more.

KEYS[1] {sale:ID}:invited_by      string, TTL  who makes the set in force
KEYS[2] {sale:ID}:invited_before  set
ARGV[1] maker                     as in stage_invited
ARGV[2] keep_ms                   as in stage_invited
ARGV[3] cursor                    0 at first, then what was returned
ARGV[4] count                     about how many
Returns the next cursor; 0 when the set is empty and gone, or when it is not this maker's turn any more.
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return '0' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
-- Kept out of the append-only file but for the end: it would be as long as the list.
redis.set_repl(redis.REPL_NONE)
local page = redis.call('SSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
if #page[2] > 0 then redis.call('SREM', KEYS[2], unpack(page[2])) end
redis.set_repl(redis.REPL_ALL)
if page[1] == '0' then redis.call('UNLINK', KEYS[2]) end
return page[1]
