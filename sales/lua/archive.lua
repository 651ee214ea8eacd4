--[[ Mirror an archived sale: what its pages show stays, everything else goes, because SQL holds it. Safe to repeat.

KEYS[1]  {sale:ID}:config  hash  also gets archived, the epoch; without stock nothing is sold
KEYS[2..]                  everything else of the sale: first what is freed here, then what may be large, then as many
                           names that the large ones get, to be emptied in parts; one that is emptied already stays
ARGV[1]  epoch             the sale's, as SQL has it
ARGV[2]  run_id            this server's run: there is nothing that it could have lost
ARGV[3]  large             how many may be large; the purchases are the first of them
ARGV[4]  sold              orders of this sale that SQL holds, without the cancelled ones
ARGV[5..] field, value     the configuration, with total_stock
Returns archived. Otherwise nothing is written: lost, when Redis holds another publication of the sale, or is being
restored; behind, when it holds more purchases than SQL has orders.
]]
local held = redis.call('HMGET', KEYS[1], 'epoch', 'archived', 'closed')
local publication, large = held[1] or held[2], tonumber(ARGV[3])
local last_small = #KEYS - 2 * large
local purchases = KEYS[last_small + 1]
if held[3] or publication and publication ~= ARGV[1] then return 'lost' end
if not publication and redis.call('EXISTS', unpack(KEYS, 1, #KEYS - large)) > 0 then return 'lost' end
-- Looked at here, because one may have been bought since SQL was asked: a successor's clock may be behind.
if held[1] and redis.call('HLEN', purchases) > tonumber(ARGV[4]) then return 'behind' end

redis.call('HDEL', KEYS[1], 'epoch', 'has_barred')
redis.call('HSET', KEYS[1], 'archived', ARGV[1], 'run_id', ARGV[2], 'sold', ARGV[4], unpack(ARGV, 5))
redis.call('UNLINK', unpack(KEYS, 2, last_small))
for i = last_small + 1, last_small + large do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('RENAMENX', KEYS[i], KEYS[i + large]) end
end
return 'archived'
