-- learned: what a provider has shown of its limits, and what its answers usually take.
-- State
--   learned:<scope>    hash, all of it optional
--       ht hr          tokens and requests a minute that its headers named, where lower than the configured ones
--       tt ta, rt ra   tokens, requests a minute after a refusal that nobody foresaw, and when (ms); they recover slowly
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
  local v = redis.call('HMGET', learned.key(scope.name), 'ht', 'hr', 'tt', 'ta', 'rt', 'ra', 'dt', 'du', 'dr', 'dv',
    'z', 'za', 'd')
  local function believed(amount, until_ms)
    return until_ms and tonumber(until_ms) > now and tonumber(amount) or 0
  end
  local tokens = recovering(number(v[3]), number(v[4]), scope.tokens, now)
  local requests = recovering(number(v[5]), number(v[6]), scope.requests, now)
  local z = number(v[11]) or LEAST_Z
  if v[12] then z = math.max(LEAST_Z, z - math.floor((now - tonumber(v[12])) / 600)) end
  return {
    tokens = lesser(lesser(scope.tokens, number(v[1])), tokens),
    requests = lesser(lesser(scope.requests, number(v[2])), requests),
    less_tokens = believed(v[7], v[8]), less_requests = believed(v[9], v[10]),
    until_tokens = number(v[8]) or now, until_requests = number(v[10]) or now,
    z = z / 1000, duration = number(v[13]) or 0,
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
  local share = math.max(1 / n, 0.02)
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
function learned.lasted(scope, ms)
  local known = number(redis.call('HGET', learned.key(scope), 'd'))
  redis.call('HSET', learned.key(scope), 'd', int(known and known + 0.05 * (ms - known) or ms))
end

-- A window has passed its limit although expected tokens fitted: the margin widens at once, and narrows with time.
function learned.passed(scope, now, z)
  redis.call('HINCRBY', learned.key(scope), 'p', 1)
  redis.call('HSET', learned.key(scope), 'z', int(math.min(MOST_Z, z * 1000 + WIDER_Z)), 'za', int(now))
end

-- Limits that an answer's headers named (nil: none) where they are lower than the configured.
function learned.named(scope, tokens, requests)
  local k = learned.key(scope.name)
  local function note(field, named, configured, what)
    if not named then return end
    if not configured or named < configured then
      redis.call('HSET', k, field, int(named), 'w', 'its headers named a lower limit of ' .. what)
    else
      redis.call('HDEL', k, field)
    end
  end
  note('ht', tokens, scope.tokens, 'tokens')
  note('hr', requests, scope.requests, 'requests')
end

-- How much less than we thought the provider had left when it answered; believed until then, or until the next answer.
function learned.had_less(scope, tokens, tokens_until, requests, requests_until)
  local k = learned.key(scope.name)
  local function note(amount, until_ms, field, until_field)
    if not amount then return end
    if amount > 0 then
      redis.call('HSET', k, field, int(amount), until_field, int(until_ms))
    else
      redis.call('HDEL', k, field, until_field)
    end
  end
  note(tokens, tokens_until, 'dt', 'du')
  note(requests, requests_until, 'dr', 'dv')
end

-- The provider refused a request that by our count it had room for: its limit of `kind` (tokens, requests) is lower than
-- we believe. Once for all that were sent before the last lowering. taken: ms at which this request took its place.
function learned.refused(scope, kind, taken, now)
  local fields = kind == 'tokens' and {'tt', 'ta'} or {'rt', 'ra'}
  local k = learned.key(scope.name)
  local since = number(redis.call('HGET', k, fields[2]))
  local limit = learned.of(scope, now)[kind]
  if not limit or (since and taken <= since) then return end
  redis.call('HSET', k, fields[1], int(math.max(1, math.floor(limit * LOWERED))), fields[2], int(now),
    'w', 'a request was refused that by our count it had ' .. kind .. ' for')
end

-- An operator says that what was learned of a scope's limits no longer holds.
function learned.forget(scope)
  redis.call('HDEL', learned.key(scope), 'ht', 'hr', 'tt', 'ta', 'rt', 'ra', 'dt', 'du', 'dr', 'dv', 'z', 'za', 'w')
end
