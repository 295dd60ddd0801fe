-- users_change: move a user to another tier, override single limits, or take overrides away.
-- ARGV     user, tier ('' = as it is), how many overrides, name and value of each, then the names to take away
-- Returns  the user's fields, or nothing if there is no such user
-- Touches  user:<user>, and the user's parked lanes: what they wait for may have changed
-- @use users
-- @use lane
-- @use wake

local user, tier, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not users.exists(user) then return {} end

local key = users.key(user)
if tier ~= '' then redis.call('HSET', key, 'tier', tier) end
for i = 4 + 2 * count, #ARGV do redis.call('HDEL', key, ARGV[i]) end
for i = 4, 3 + 2 * count, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
if lane.unpark(user) then wake.push(clock(''), 1) end
return users.fields(user)
