-- endpoints_change: change what is given of an endpoint, and look again at what waits for it.
-- ARGV     epoch, now ('' = server), user, id, then name and value of each field (url, types, name, disabled)
-- Returns  its fields, or nothing if the user has none of that id
-- Touches  endpoint:<id>, subscriptions:<user>, and the lane of the endpoint
-- @use epoch
-- @use outbox
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local who, id = ARGV[3], ARGV[4]
if not endpoints.of(who, id) then return {} end
local k, changed = key.endpoint(id), false
for i = 5, #ARGV, 2 do
  if redis.call('HGET', k, ARGV[i]) ~= ARGV[i + 1] then
    redis.call('HSET', k, ARGV[i], ARGV[i + 1])
    changed = true
  end
end
if changed then
  redis.call('HSET', k, 'updated', int(now))
  endpoints.subscribe(id)
  receiver.retry(id, now)
  outbox.refresh(id, now)
end
return endpoints.of(who, id)
