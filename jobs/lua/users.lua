-- users: who may ask, on which tier, and with which keys.
-- State
--   user:<user>   hash: tier, created (ms), and overrides under the names of the tier's limits ('' = unlimited)
--   users         sorted set of the registered users, all scores 0: listed in byte order
--   key:<id>      hash: digest (hex), user, scopes (space separated), created, expires, used (ms, '' = never)
--   keys          sorted set of the key ids, all scores 0;   keys:<user>   set of one user's key ids
-- Channel `keys`: the id of each key that was made, given an end, or revoked, for whoever has it in a cache.
-- A changed layout needs new key names: two versions may run at once.
-- @use clock

local users = {}

function users.key(user) return 'user:' .. user end
function users.api_key(id) return 'key:' .. id end
function users.keys_of(user) return 'keys:' .. user end

function users.exists(user) return redis.call('EXISTS', users.key(user)) == 1 end

function users.create(user, tier, now)
  redis.call('HSET', users.key(user), 'tier', tier, 'created', int(now))
  redis.call('ZADD', 'users', 0, user)
end

-- Name and value after each other, empty if there is no such user.
function users.fields(user) return redis.call('HGETALL', users.key(user)) end

function users.tell(id) redis.call('PUBLISH', 'keys', id) end
