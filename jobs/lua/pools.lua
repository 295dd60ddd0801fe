-- pools: the state of pools for operators: their windows, what was learned of their limits and why, and what pauses them.
-- ARGV     epoch, now ('' = server), pool...
-- Returns  one JSON object a pool that is configured: {pool, provider, accounting, mode, estimates, scopes: [{name, kt kr
--          limits as configured, lt lr limits in force, t f r tokens charged, in flight, requests; dt dr tokens, requests it
--          had less than we thought; z margin, p windows passed, d usual call (ms), w why lowered}], pu paused until, pr why,
--          pl level of the alarm, an am answers seen and their mean tokens}; absent: unlimited, unknown, or none
-- Touches  config:pool:*, window:*, learned:*, answers:*, pause:*
-- @use epoch
-- @use pool

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])

local function scope_of(spec, scope, used)
  local known = learned.of(scope, now)
  local v = redis.call('HMGET', learned.key(scope.name), 'p', 'w')
  return {
    name = scope.name, kt = scope.tokens, kr = scope.requests, lt = known.tokens, lr = known.requests,
    t = used[3], f = used[4], r = used[6], dt = known.less_tokens, dr = known.less_requests,
    z = spec.estimates == 'learned' and known.z or nil, p = number(v[1]) or 0, w = v[2] or nil,
    d = known.duration > 0 and known.duration or nil,
  }
end

local answer = {}
for i = 3, #ARGV do
  local settings = pool.settings(ARGV[i])
  if settings then
    local spec, scopes = settings.spec, {}
    for k, used in ipairs(window.view(spec, now)) do scopes[k] = scope_of(spec, spec.scopes[k], used) end
    local pause = redis.call('HMGET', key.pause(ARGV[i]), 'until', 'reason', 'level')
    local until_ms = number(pause[1])
    local paused = until_ms and until_ms > now
    local seen = redis.call('HMGET', learned.answers_key(ARGV[i]), 'n', 'm')
    answer[#answer + 1] = cjson.encode({
      pool = ARGV[i], provider = spec.scopes[1].name, accounting = spec.accounting, mode = spec.mode,
      estimates = spec.estimates, scopes = scopes,
      pu = paused and until_ms or nil, pr = paused and pause[2] or nil, pl = number(pause[3]) or 0,
      an = number(seen[1]) or 0, am = seen[2] and math.floor(tonumber(seen[2]) / 1000) or nil,
    })
  end
end
return answer
