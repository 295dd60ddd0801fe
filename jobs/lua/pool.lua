-- pool: which pools serve a name, their windows, and whether they are paused.
-- State
--   config:name:<name>   JSON list of pools ('provider/model') in order of preference
--   config:pool:<pool>   hash: provider, accounting, mode, estimates, span (ms), margin (ms), timeout (ms), tokens, requests (of the
--                        provider, a minute), model_tokens, model_requests ('' = unlimited)
--   config:index         set of the keys of names and pools
--   pause:<pool>         hash: until (ms), level (0: throttled; 1 and more: an alarm, probed at growing intervals), reason,
--                        probe (the lease token of the job that was last tried after an alarm),
--                        forbidden (the last 403 since a job got through: whether another user got one before, token, user)
-- @use clock
-- @use keys
-- @use window

local pool = {}
local names, pools = {}, {}

-- The pools of a served name; nil when the configuration does not serve it.
function pool.of(name)
  if names[name] == nil then
    local stored = redis.call('GET', key.name(name))
    names[name] = stored and cjson.decode(stored) or false
  end
  return names[name] or nil
end

-- A pool's settings with its window spec; nil when it is not configured (any more).
function pool.settings(id)
  if pools[id] == nil then
    local v = redis.call('HMGET', key.pool(id), 'provider', 'accounting', 'mode', 'span', 'margin', 'timeout',
      'tokens', 'requests', 'model_tokens', 'model_requests', 'estimates')
    if not v[1] then
      pools[id] = false
    else
      local scopes = {{name = v[1], tokens = number(v[7]), requests = number(v[8])}}
      if number(v[9]) or number(v[10]) then
        scopes[2] = {name = id, tokens = number(v[9]), requests = number(v[10])}
      end
      pools[id] = {id = id, margin = tonumber(v[5]), timeout = tonumber(v[6]),
        spec = {pool = id, accounting = v[2], mode = v[3], estimates = v[11], span = tonumber(v[4]), scopes = scopes}}
    end
  end
  return pools[id] or nil
end

-- All served names and all pools that the configuration has.
function pool.configured()
  local found_names, found_pools = {}, {}
  for _, k in ipairs(redis.call('SMEMBERS', 'config:index')) do
    local name, id = string.match(k, '^config:name:(.+)$'), string.match(k, '^config:pool:(.+)$')
    if name then found_names[#found_names + 1] = name end
    if id then found_pools[#found_pools + 1] = id end
  end
  table.sort(found_names)
  table.sort(found_pools)
  return found_names, found_pools
end

local FIRST_PROBE_MS, LAST_PROBE_MS = 30000, 600000

-- ms for which the pool is paused; 0 when a job may be sent.
function pool.paused(id, now)
  local until_ms = number(redis.call('HGET', key.pause(id), 'until'))
  return until_ms and math.max(0, until_ms - now) or 0
end

local function interval(level) return math.min(LAST_PROBE_MS, FIRST_PROBE_MS * 2 ^ (level - 1)) end

-- Pauses a pool for `ms`; as an alarm, for a growing interval until a job gets through. token: of the attempt that says
-- so. What was sent before an alarm may fail with it, and says nothing new.
function pool.pause(id, now, ms, reason, alarm, token)
  local known = redis.call('HMGET', key.pause(id), 'level', 'until', 'probe')
  local level = number(known[1]) or 0
  if alarm then
    if level > 0 and known[3] ~= token then return end
    level = level + 1
    ms = interval(level)
  end
  local until_ms = math.max(now + ms, number(known[2]) or 0)
  redis.call('HSET', key.pause(id), 'until', int(until_ms), 'level', int(level), 'reason', reason)
  redis.call('PEXPIRE', key.pause(id), int(until_ms - now + 2 * LAST_PROBE_MS))
end

-- To be called when a job is claimed for the pool: after an alarm, one job alone is tried, the others wait on.
function pool.probe(id, now, token)
  local level = number(redis.call('HGET', key.pause(id), 'level'))
  if level and level > 0 then
    redis.call('HSET', key.pause(id), 'until', int(now + interval(level)), 'probe', token)
    redis.call('PEXPIRE', key.pause(id), int(interval(level) + 2 * LAST_PROBE_MS))
  end
end

-- After an alarm, the next job is tried at once.
function pool.retry(id, now)
  local level = number(redis.call('HGET', key.pause(id), 'level'))
  if level and level > 0 then redis.call('HSET', key.pause(id), 'until', int(now)) end
end

-- A job got a 403. Providers answer so to a key without rights, and some to one flagged prompt: true when jobs of two
-- users got one in a row. Whoever is tried again after that and gets another is alone with it: his job is at fault.
function pool.forbidden(id, user, token, now)
  local known = redis.call('HGET', key.pause(id), 'forbidden')
  local widely, last_token, last_user = string.match(known or '', '^(%d) (%S+) (.*)$')
  if last_token == token then return widely == '1' end
  widely = last_user and last_user ~= user
  redis.call('HSET', key.pause(id), 'forbidden', (widely and '1 ' or '0 ') .. token .. ' ' .. user)
  keep_until(key.pause(id), now + 2 * LAST_PROBE_MS, now)
  return widely
end

-- A job got through: an alarm is over. A pause the provider asked for runs on: the job was sent before it.
function pool.resume(id)
  local known = redis.call('HMGET', key.pause(id), 'level', 'forbidden')
  if known[1] and tonumber(known[1]) > 0 then
    redis.call('DEL', key.pause(id))
  elseif known[2] then
    redis.call('HDEL', key.pause(id), 'forbidden')
  end
end
