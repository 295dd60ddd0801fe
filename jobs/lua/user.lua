-- user: who is limited, and by what. A user's own overrides go before his tier's limits.
-- State
--   user:<user>          hash: tier, created, and overrides under the names below ('' = unlimited, absent = the tier's)
--   config:tier:<tier>   hash: the limits of a tier under the names below ('' = unlimited)
--   config:anonymous     hash: tier, tokens_per_day of all anonymous users together
-- @use clock
-- @use keys

local user = {}
local LIMITS = {'requests_per_minute', 'block_s', 'requests_per_day', 'tokens_per_day', 'max_concurrent',
  'max_queued_jobs', 'max_queued_tokens', 'weight'}
-- All anonymous users together, as a user of the limiter; no registered user can have this name.
user.EVERYBODY = 'ip:all'

function user.anonymous(id) return string.sub(id, 1, 3) == 'ip:' end

local known, tiers = {}, {}

-- A tier's limits as they are stored. Read once per script, whoever is on it.
local function of_tier(name)
  tiers[name] = tiers[name] or redis.call('HMGET', key.tier(name), unpack(LIMITS))
  return tiers[name]
end

-- The limits in force, nil for unlimited, and the tier's name. Read once per script and user.
function user.limits(id)
  local limits = known[id]
  if limits then return limits end
  local own = redis.call('HMGET', key.user(id), 'tier', unpack(LIMITS))
  local tier = own[1]
  if not tier and user.anonymous(id) then tier = redis.call('HGET', key.ANONYMOUS, 'tier') end
  limits = {tier = tier or ''}
  local stored = of_tier(limits.tier)
  for i, name in ipairs(LIMITS) do
    local value = own[i + 1]
    if not value then value = stored[i] end
    limits[name] = number(value)
  end
  limits.weight = limits.weight or 1
  limits.rate = {limit = limits.requests_per_minute, window = 60000, block = (limits.block_s or 0) * 1000,
    per_day = limits.requests_per_day}
  known[id] = limits
  return limits
end
