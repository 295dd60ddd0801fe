-- users_put_key: keep a new API key, and register its user if need be. Told twice, it is kept once.
-- ARGV     now ('' = server), tier of a new user ('' = the user must be there), key id, user, digest, scopes,
--          created, expires, used (ms, '' = never)
-- Returns  'kept' and the user's fields, 'unknown' (no such user), or 'taken' (another key has that id)
-- Touches  key:<id>, keys, keys:<user>, user:<user>, users; channel keys
-- @use users

local tier, id, user, digest = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = users.exists(user)
if not known and tier == '' then return {'unknown'} end
local key = users.api_key(id)
local kept = redis.call('HGET', key, 'digest')
if kept and kept ~= digest then return {'taken'} end

if not known then users.create(user, tier, clock(ARGV[1])) end
redis.call('HSET', key, 'digest', digest, 'user', user, 'scopes', ARGV[6], 'created', ARGV[7], 'expires', ARGV[8],
  'used', ARGV[9])
redis.call('ZADD', 'keys', 0, id)
redis.call('SADD', users.keys_of(user), id)
users.tell(id)
return {'kept', users.fields(user)}
