-- users_touch_key: note that a key was used, unless it was revoked meanwhile.
-- ARGV     now ('' = server), key id
-- Returns  1, or 0 if there is no such key
-- Touches  key:<id>
-- @use users

local key = users.api_key(ARGV[2])
if redis.call('EXISTS', key) == 0 then return 0 end

redis.call('HSET', key, 'used', int(clock(ARGV[1])))
return 1
