-- endpoints_delete: forget an endpoint; what waits for it fails when it is looked at.
-- ARGV     epoch, now ('' = server), user, id
-- Returns  1, or 0 if the user has none of that id
-- Touches  endpoint:<id>, endpoints:<user>, subscriptions:<user>, receiver:<id>, and the lane of the endpoint
-- @use epoch
-- @use outbox

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local who, id = ARGV[3], ARGV[4]
if not endpoints.of(who, id) then return 0 end
redis.call('DEL', key.endpoint(id))
redis.call('ZREM', key.endpoints_of(who), id)
redis.call('HDEL', key.subscriptions(who), id)
receiver.worked(id)
outbox.refresh(id, now)
return 1
