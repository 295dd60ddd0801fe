-- deliveries_redeliver: send a delivery that has ended once more, or at once one that waits.
-- ARGV     epoch, now ('' = server), user, id
-- Returns  {'pending', head} | {'deleted'}: its endpoint is | {'not_found'}
-- Touches  outbox.lua
-- @use epoch
-- @use outbox
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local id = ARGV[4]
local head = outbox.load(id)
if not head or head.u ~= ARGV[3] then return {'not_found'} end
if head.ep and redis.call('EXISTS', key.endpoint(head.ep)) == 0 then return {'deleted'} end
if head.st ~= 'pending' then
  outbox.redeliver(id, head, now)
elseif not head.lt then
  outbox.hurry(id, head, now)
end
return {'pending', redis.call('HGET', key.delivery(id), 'h')}
