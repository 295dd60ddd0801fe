-- publish: put the configuration in force where the scripts read it. Tiers that are gone keep their last limits, since
-- users may still be on them; names and pools that are gone are no longer served.
-- ARGV     now ('' = server), JSON {tiers: {name: {limit: text}}, names: {name: [pool, ...]}, pools: {pool: {field: text}},
--          anonymous: {field: text}, retention: {field: text}}, digest of the whole configuration
-- Returns  1
-- Touches  config:*, pause:* of pools with an alarm (what was wrong may be right now), fair.lua, wake, relook, and the
--          parked lanes of everybody (limits may have changed)
-- @use lane
-- @use pool
-- @use wake

local now = clock(ARGV[1])
local config = cjson.decode(ARGV[2])

local function put(k, fields)
  redis.call('DEL', k)
  for field, value in pairs(fields) do redis.call('HSET', k, field, value) end
end

for _, old in ipairs(redis.call('SMEMBERS', 'config:index')) do redis.call('DEL', old) end
redis.call('DEL', 'config:index')
for tier, limits in pairs(config.tiers) do put(key.tier(tier), limits) end
for name, pools in pairs(config.names) do
  redis.call('SET', key.name(name), cjson.encode(pools))
  redis.call('SADD', 'config:index', key.name(name))
end
local changed = redis.call('GET', 'config:digest') ~= ARGV[3]
redis.call('SET', 'config:digest', ARGV[3])
for id, settings in pairs(config.pools) do
  put(key.pool(id), settings)
  redis.call('SADD', 'config:index', key.pool(id))
  if changed then pool.retry(id, now) end
end
put(key.ANONYMOUS, config.anonymous)
put(key.RETENTION, config.retention)
-- The first of those who are parked are looked at now, the others by the sweep of each second.
if changed then lane.limits_changed() end
lane.look_again()
lane.look_again()
wake.push(now, 1000)
return 1
