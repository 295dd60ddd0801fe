-- learned: what a provider has shown of its limits, and what its answers usually take.
-- State
--   learned:<scope>    hash, all of it optional
--       ht hr          tokens and requests a minute that its headers named, where lower than the configured ones
--       tt ta, rt ra   tokens, requests a minute after a refusal that nobody foresaw, and when (ms); they recover slowly
--       et er          when (ms) a refusal last told that a mirrored bucket held less tokens, requests than ours
--       dt du, dr dv   tokens, requests it had less than we thought, and until when (ms) that is believed
--       z za           margin of learned estimates in thousandths of a standard deviation, and when (ms) it was widened
--       p              how often a window passed its limit under learned estimates
--       d              how long its calls usually take (ms)
--       w              why the limit was last lowered
--   answers:<pool>, answers:<pool> <user>   hash: n how many answers, m their mean output tokens (thousandths), v variance
-- @use clock

local learned = {}
-- After a refusal: to 70 % of the limit, and back by 5 % of the configured limit a minute.
local LOWERED, RECOVERED_A_MS = 0.7, 0.05 / 60000
-- Of a normal distribution 0.1 % lies beyond 3.1 standard deviations; but a window is filled up again and again while its
-- calls end, and each time may be the one. Measured by bench/utilisation.py.
local LEAST_Z, MOST_Z, WIDER_Z = 3300, 8000, 500
local ENOUGH, ENOUGH_OF_USER = 20, 50
local DAY_LIFE = 86400000

function learned.key(scope) return 'learned:' .. scope end
function learned.answers_key(pool, who) return 'answers:' .. pool .. (who and ' ' .. who or '') end

-- All that is kept of a scope: read once per script, and after a change.
local kept = {}

local function notes_of(name)
  if not kept[name] then
    local flat, notes = redis.call('HGETALL', learned.key(name)), {}
    for i = 1, #flat, 2 do notes[flat[i]] = tonumber(flat[i + 1]) end
    kept[name] = notes
  end
  return kept[name]
end

local function note(name, ...)
  kept[name] = nil
  redis.call('HSET', learned.key(name), ...)
end

local function unlearn(name, ...)
  kept[name] = nil
  redis.call('HDEL', learned.key(name), ...)
end

local function recovering(lowered, since, configured, now)
  if not lowered then return nil end
  local limit = lowered + math.floor((now - since) * RECOVERED_A_MS * (configured or lowered))
  return (not configured or limit < configured) and limit or nil
end

local function lesser(a, b)
  if a and b then return math.min(a, b) end
  return a or b
end

-- What is known of a scope now: {tokens, requests: limits in force; less_tokens, less_requests; z; duration}.
function learned.of(scope, now)
  local v = notes_of(scope.name)
  local z = v.z or LEAST_Z
  if v.za then z = math.max(LEAST_Z, z - math.floor((now - v.za) / 600)) end
  return {
    tokens = lesser(lesser(scope.tokens, v.ht), recovering(v.tt, v.ta, scope.tokens, now)),
    requests = lesser(lesser(scope.requests, v.hr), recovering(v.rt, v.ra, scope.requests, now)),
    less_tokens = v.du and v.du > now and v.dt or 0, less_requests = v.dv and v.dv > now and v.dr or 0,
    until_tokens = v.du or now, until_requests = v.dv or now,
    z = z / 1000, duration = v.d or 0,
  }
end

-- What a request is expected to take of the windows while in flight: tokens, and their variance. With estimates by cap,
-- or too little experience, that is the cap, for certain; never more than the cap.
function learned.expected(spec, who, input, output)
  if spec.estimates ~= 'learned' or spec.accounting == 'openai' then return input + output, 0 end
  local own = who and redis.call('HMGET', learned.answers_key(spec.pool, who), 'n', 'm', 'v')
  if not own or (number(own[1]) or 0) < ENOUGH_OF_USER then
    own = redis.call('HMGET', learned.answers_key(spec.pool), 'n', 'm', 'v')
  end
  if (number(own[1]) or 0) < ENOUGH then return input + output, 0 end
  local mean = math.ceil(tonumber(own[2]) / 1000)
  if mean >= output then return input + output, 0 end
  return input + mean, tonumber(own[3])
end

local function note_answer(k, output)
  local v = redis.call('HMGET', k, 'n', 'm', 'v')
  local n, mean, variance = (number(v[1]) or 0) + 1, (number(v[2]) or 0) / 1000, number(v[3]) or 0
  -- Exponentially weighted mean and variance (T. Finch, Incremental calculation of weighted mean and variance, 2009).
  local share = math.max(1 / n, 0.01)
  local diff = output - mean
  mean = mean + share * diff
  variance = (1 - share) * (variance + share * diff * diff)
  redis.call('HSET', k, 'n', int(n), 'm', int(mean * 1000), 'v', int(variance))
  redis.call('PEXPIRE', k, DAY_LIFE)
end

-- How far above what is expected the sum of the answers in flight may come out, `share` of them having ended. Answers are
-- skewed like an exponential distribution: the second term is the correction of the normal quantile for that skewness
-- (E. A. Cornish, R. A. Fisher, 1938), which is what matters when few are in flight.
function learned.spread(z, in_flight, variance, share)
  return math.ceil(z * math.sqrt(share * (in_flight + variance)) + (z * z - 1) / 3 * math.sqrt(variance))
end

-- An answer took `output` tokens.
function learned.answered(pool, who, output)
  note_answer(learned.answers_key(pool), output)
  if who then note_answer(learned.answers_key(pool, who), output) end
end

-- A call of a scope took `ms`.
function learned.lasted(name, ms)
  local known = notes_of(name).d
  note(name, 'd', int(known and known + 0.05 * (ms - known) or ms))
end

-- A window has passed its limit although expected tokens fitted: the margin widens at once, and narrows with time.
function learned.passed(name, now, z)
  redis.call('HINCRBY', learned.key(name), 'p', 1)
  note(name, 'z', int(math.min(MOST_Z, z * 1000 + WIDER_Z)), 'za', int(now))
end

-- Limits that an answer's headers named (nil: none) where they are lower than the configured.
function learned.named(scope, tokens, requests)
  local function heed(field, named, configured, what)
    if not named then return end
    if not configured or named < configured then
      note(scope.name, field, int(named), 'w', 'its headers named a lower limit of ' .. what)
    elseif notes_of(scope.name)[field] then
      unlearn(scope.name, field)
    end
  end
  heed('ht', tokens, scope.tokens, 'tokens')
  heed('hr', requests, scope.requests, 'requests')
end

-- How much less than we thought the provider had left when it answered; believed until then, or until the next answer.
function learned.had_less(scope, tokens, tokens_until, requests, requests_until)
  local function heed(amount, until_ms, field, until_field)
    if not amount then return end
    if amount > 0 then
      note(scope.name, field, int(amount), until_field, int(until_ms))
    elseif notes_of(scope.name)[field] then
      unlearn(scope.name, field, until_field)
    end
  end
  heed(tokens, tokens_until, 'dt', 'du')
  heed(requests, requests_until, 'dr', 'dv')
end

-- The provider refused a request that by our count it had room for: its limit of `kind` (tokens, requests) is lower than
-- we believe. Once for all that were sent before the last lowering. taken: ms at which this request took its place.
function learned.refused(scope, kind, taken, now)
  local field, since_field = 'tt', 'ta'
  if kind == 'requests' then field, since_field = 'rt', 'ra' end
  local since, limit = notes_of(scope.name)[since_field], learned.of(scope, now)[kind]
  if not limit or (since and taken <= since) then return end
  note(scope.name, field, int(math.max(1, math.floor(limit * LOWERED))), since_field, int(now),
    'w', 'a request was refused that by our count it had ' .. kind .. ' for')
end

-- The provider refused what a mirrored bucket had room for, and the bucket was put right: whether that had been so within
-- the last minute already, before this request took its place.
function learned.emptied(scope, kind, taken, now)
  local field = kind == 'tokens' and 'et' or 'er'
  local last = notes_of(scope.name)[field]
  if last and taken <= last then return false end
  note(scope.name, field, int(now))
  return last ~= nil and now - last < 60000
end

-- An operator says that what was learned of a scope's limits no longer holds.
function learned.forget(name) unlearn(name, 'ht', 'hr', 'tt', 'ta', 'rt', 'ra', 'dt', 'du', 'dr', 'dv', 'z', 'za', 'w', 'et', 'er') end
