--[[ Give back what Redis may have lost of the shoppers of a sale, and return all of them. Safe to repeat.

KEYS[1] {sale:ID}:shoppers           HyperLogLog
KEYS[2] {sale:ID}:shoppers:restored  HyperLogLog  for the time of the call
ARGV[1] sketch                       as this script has returned it before; "" for none
Returns {count, sketch}.
]]
-- As in note_shoppers: it costs no fsync.
redis.set_repl(redis.REPL_NONE)
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[2], ARGV[1])
  redis.call('PFMERGE', KEYS[1], KEYS[2])
  redis.call('DEL', KEYS[2])
end
return {redis.call('PFCOUNT', KEYS[1]), redis.call('GET', KEYS[1]) or ''}
