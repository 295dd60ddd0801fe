-- users_expire_key: let a key end at a time, or when it would have ended anyway if that is sooner.
-- ARGV     key id, expires (ms)
-- Returns  the key's fields, or nothing if there is no such key
-- Touches  key:<id>; channel keys
-- @use users

local key = users.api_key(ARGV[1])
local ends = redis.call('HGET', key, 'expires')
if not ends then return {} end

if ends == '' or tonumber(ends) > tonumber(ARGV[2]) then redis.call('HSET', key, 'expires', ARGV[2]) end
users.tell(ARGV[1])
return redis.call('HGETALL', key)
