-- deliveries_prepare: keep what a delivery sends on every attempt, and the user's default secret if he has none yet.
-- ARGV     epoch, now ('' = server), id, token, body, secret (encrypted, '' = there is one), its hint
-- Returns  {'ready', body, secret, old secret}: those that were kept first | {'lost'}: no longer this lease's
-- Touches  delivery:<id>, signing:<user>
-- @use epoch
-- @use outbox
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local id, token, body, secret = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local head = outbox.load(id)
if not head or head.lt ~= token then return {'lost'} end

redis.call('HSETNX', key.delivery(id), 'b', body)
local k = head.ep and key.endpoint(head.ep) or key.signing(head.u)
if secret ~= '' and not head.ep and redis.call('HSETNX', k, 'secret', secret) == 1 then
  redis.call('HSET', k, 'hint', ARGV[7], 'updated', int(now))
end
return {'ready', redis.call('HGET', key.delivery(id), 'b'), endpoints.secrets(k, now)}
