-- users_revoke_key: forget a key at once. Only deletes, so that it works while Redis is full.
-- ARGV     key id
-- Returns  1, or 0 if there is no such key
-- Touches  key:<id>, keys, keys:<user>; channel keys
-- @use users

local id = ARGV[1]
local user = redis.call('HGET', users.api_key(id), 'user')
if not user then return 0 end

redis.call('DEL', users.api_key(id))
redis.call('ZREM', 'keys', id)
redis.call('SREM', users.keys_of(user), id)
users.tell(id)
return 1
