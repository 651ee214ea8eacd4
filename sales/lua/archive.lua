--[[ Mirror an archived sale: what its pages show stays, everything else goes, because SQL holds it. Safe to repeat.

KEYS[1]  {sale:ID}:config  hash  also gets archived, the epoch; without stock nothing is sold
KEYS[2..]                  everything else of the sale: first what is freed here, then what may be large, then as many
                           names that the large ones get, to be emptied in parts; one that is emptied already stays
ARGV[1]  epoch             the sale's, as SQL has it
ARGV[2]  run_id            this server's run: there is nothing that it could have lost
ARGV[3]  large             how many may be large
ARGV[4..] field, value     the configuration, with total_stock and sold
Returns archived; or lost, without writing, when Redis holds another publication of the sale, or is being restored.
]]
local held = redis.call('HMGET', KEYS[1], 'epoch', 'archived', 'closed')
local publication, large = held[1] or held[2], tonumber(ARGV[3])
local last_small = #KEYS - 2 * large
if held[3] or publication and publication ~= ARGV[1] then return 'lost' end
if not publication and redis.call('EXISTS', unpack(KEYS, 1, #KEYS - large)) > 0 then return 'lost' end

redis.call('HDEL', KEYS[1], 'epoch', 'has_barred')
redis.call('HSET', KEYS[1], 'archived', ARGV[1], 'run_id', ARGV[2], unpack(ARGV, 4))
redis.call('UNLINK', unpack(KEYS, 2, last_small))
for i = last_small + 1, last_small + large do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('RENAMENX', KEYS[i], KEYS[i + large]) end
end
return 'archived'
