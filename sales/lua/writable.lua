#!lua
--[[ Tell whether this server takes purchases. Writes nothing: but a script that names its language, and does not say
`no-writes`, is refused at its start by a server on which it could not write (full, read-only, without its replicas, …).

KEYS[1] any key of the server
Returns whether it is there, 1 or 0. Fails as the server does: OOM, READONLY, NOREPLICAS, MISCONF, …
]]
return redis.call('EXISTS', KEYS[1])
