--[[ Count a try to give the code that was sent to an e-mail address.

KEYS[1] codes:ADDRESS  hash  nonce, typed, tries
Returns {nonce of the code to type, tries}, this try among them; nothing when none is valid.
]]
local found = redis.call('HMGET', KEYS[1], 'nonce', 'typed')
if not found[1] then return {} end
return {found[2] or found[1], redis.call('HINCRBY', KEYS[1], 'tries', 1)}
