--[[ Read how far the order writer is behind with a sale. Writes nothing.

KEYS[1] {sale:ID}:orders  stream
ARGV[1] group             of the order writers
Returns {backlog, waited_ms}: how many purchases are not acknowledged, and how long the oldest of them has waited; 0 for
both when there is none.
]]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function made_ms(order_id) return tonumber(string.match(order_id, '^%d+')) end

if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0} end
for _, told in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for place = 1, #told, 2 do group[told[place]] = told[place + 1] end
  local backlog = group.pending + (group.lag or 0)
  if group.name == ARGV[1] and backlog > 0 then
    local oldest = { now_ms }
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
    if pending[2] then table.insert(oldest, made_ms(pending[2])) end
    local undelivered = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)
    if undelivered[1] then table.insert(oldest, made_ms(undelivered[1][1])) end
    return {backlog, now_ms - math.min(unpack(oldest))}
  end
end
return {0, 0}
