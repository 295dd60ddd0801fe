-- endpoints_create: register an endpoint. Told twice, it is registered once.
-- ARGV     epoch, now ('' = server), user, id, url, types (space separated), name, secret (encrypted), its hint
-- Returns  {'created', fields...} | {'too_many', how many a user may have}
-- Touches  endpoint:<id>, endpoints:<user>, subscriptions:<user>
-- @use epoch
-- @use endpoints
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local who, id = ARGV[3], ARGV[4]
local k = key.endpoint(id)
if redis.call('EXISTS', k) == 0 then
  if redis.call('ZCARD', key.endpoints_of(who)) >= endpoints.MOST then return {'too_many', int(endpoints.MOST)} end
  redis.call('HSET', k, 'user', who, 'url', ARGV[5], 'types', ARGV[6], 'name', ARGV[7], 'created', int(now), 'updated', int(now),
    'disabled', '', 'secret', ARGV[8], 'hint', ARGV[9])
  redis.call('ZADD', key.endpoints_of(who), 0, id)
  endpoints.subscribe(id)
end
return {'created', unpack(endpoints.of(who, id) or {})}
