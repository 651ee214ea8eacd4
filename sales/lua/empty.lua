--[[ Empty some of what an archived sale has let go, and nobody asks any more.

KEYS[1] {sale:ID}:freed:NAME  hash, set or stream
ARGV[1] cursor                0 at first, then what was returned
ARGV[2] count                 about how many
Returns the next cursor; 0 when nothing is left, or hardly anything, and the key is gone.
]]
local kind = redis.call('TYPE', KEYS[1]).ok
local cursor = '0'
-- Kept out of the append-only file but for the end: it would be as long as what is emptied.
redis.set_repl(redis.REPL_NONE)
if kind == 'stream' then
  if redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', 0, 'LIMIT', ARGV[2]) > 0 then cursor = '1' end
elseif kind ~= 'none' then
  local names, page = {}, redis.call(kind == 'hash' and 'HSCAN' or 'SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
  for i = 1, #page[2], kind == 'hash' and 2 or 1 do names[#names + 1] = page[2][i] end
  if #names > 0 then redis.call(kind == 'hash' and 'HDEL' or 'SREM', KEYS[1], unpack(names)) end
  cursor = page[1]
end
redis.set_repl(redis.REPL_ALL)
if cursor == '0' then redis.call('UNLINK', KEYS[1]) end
return cursor
