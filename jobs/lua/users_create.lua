-- users_create: register a user, unless there is one of that name.
-- ARGV     now ('' = server), user, tier, then name and value of each override
-- Returns  the user's fields, or nothing if the name was taken
-- Touches  user:<user>, users
-- @use users

local user = ARGV[2]
if users.exists(user) then return {} end

users.create(user, ARGV[3], clock(ARGV[1]))
for i = 4, #ARGV, 2 do redis.call('HSET', users.key(user), ARGV[i], ARGV[i + 1]) end
return users.fields(user)
