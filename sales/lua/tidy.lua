--[[ Remove from a stream what SQL has, never by length, and forget writers that are dead. Safe to repeat.

KEYS[1] {sale:ID}:orders  stream
ARGV[1] group             of the order writers
ARGV[2] forget_after_ms   a writer that has nothing to acknowledge, and was silent for so long, is dead
Returns how many entries were removed. Redis bounds that, so that purchases go on: there may be more.
]]
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end

local function named(told)
  local found = {}
  for place = 1, #told, 2 do found[told[place]] = told[place + 1] end
  return found
end

local boundary
for _, told in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(told)
  -- What is not acknowledged may not be in SQL.
  if group.name == ARGV[1] then boundary = redis.call('XPENDING', KEYS[1], ARGV[1])[2] or group['last-delivered-id'] end
end
if not boundary then return 0 end

-- Looked at here: one that has just been given entries is no dead one, and they would be forgotten with it.
for _, told in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local writer = named(told)
  if writer.pending == 0 and writer.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], writer.name)
  end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', boundary)
