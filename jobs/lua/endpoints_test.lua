-- endpoints_test: put a test event into the lane of an endpoint, before all that waits there and tried once.
-- ARGV     epoch, now ('' = server), user, endpoint, id of the delivery, of the event, its type, body
-- Returns  {'pending', head} | {'disabled', why} | {'not_found'}
-- Touches  outbox.lua
-- @use epoch
-- @use outbox
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local who, lane, id = ARGV[3], ARGV[4], ARGV[5]
if not endpoints.of(who, lane) then return {'not_found'} end
if endpoints.disabled(lane) then return {'disabled', redis.call('HGET', key.endpoint(lane), 'disabled')} end
if not outbox.load(id) then
  receiver.retry(lane, now)
  outbox.add(id, {u = who, t = ARGV[7], ev = ARGV[6], l = lane, ep = lane, once = true}, now, 'b', ARGV[8])
  outbox.refresh(lane, now)
end
return {'pending', redis.call('HGET', key.delivery(id), 'h')}
