-- endpoints_rotate: put a new secret in the place of an endpoint's, or of the user's default one.
-- ARGV     epoch, now ('' = server), user, id ('' = the default), secret (encrypted), its hint, for how long the old one signs
--          too (ms)
-- Returns  {'rotated', fields...} | {'not_found'}
-- Touches  endpoint:<id> or signing:<user>
-- @use epoch
-- @use endpoints
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local who, id = ARGV[3], ARGV[4]
if id ~= '' and not endpoints.of(who, id) then return {'not_found'} end
local k = id == '' and key.signing(who) or key.endpoint(id)
endpoints.rotate(k, ARGV[5], ARGV[6], tonumber(ARGV[7]), now)
return {'rotated', unpack(redis.call('HGETALL', k))}
