-- window: a provider's tokens and requests per minute, for a provider as a whole and for a model of its own.
-- State
--   window:<scope>   hash, one per provider or provider/model
--       t<i> r<i>    tokens and requests charged in slice i (SLICE ms long)
--       T R          their sums over the slices that still count;  o  the oldest of those slices
--       F V          tokens in flight: held until their call is settled, counted in full; their variance, where they
--                    are expected ones (learned.lua)
--       C D          all tokens and requests that were ever taken, to tell what was taken since
--       a s          last time seen, and what is added to `now` so that this window's time never runs backwards
--       l q          mirror mode: tokens and requests in the provider's bucket, in thousandths, at time `a`
--       B N K        a large job this window is kept free for, what it needs, what has overtaken it since
-- A spec (of one pool) is {pool, accounting, mode, estimates, span, scopes = {{name, tokens, requests}, ...}}: span in
-- ms is the minute plus the margin; tokens and requests per minute, nil for unlimited.
-- strict: a sliding window of whole slices, so a part-slice always counts: never over the limit in any minute.
-- mirror: the provider's own bucket (L tokens, refilled L a minute), with its burst.
-- @use clock
-- @use learned

local window = {}
local SLICE = 500
local MINUTE = 60000

-- The slice of this moment.
function window.slice(w) return math.floor(w.now / SLICE) end

function window.key(scope) return 'window:' .. scope end

local loaded = {}

local function save(w)
  redis.call('HSET', w.key, 'a', int(w.now), 's', int(w.skew), 'T', int(w.T), 'R', int(w.R), 'F', int(w.F),
    'V', int(w.V), 'C', int(w.C), 'D', int(w.D), 'o', int(w.oldest), 'l', int(w.l), 'q', int(w.q))
end

-- Drops the slices that have left: those that ended `span` or more before now.
local function advance(w)
  local keep_from = math.floor((w.now - w.span) / SLICE)
  if w.oldest >= keep_from then return end
  if (w.T == 0 and w.R == 0) or keep_from - w.oldest > 4 * w.span / SLICE then
    -- Long idle: everything has left.
    local fields = redis.call('HKEYS', w.key)
    for _, field in ipairs(fields) do
      local slice = string.match(field, '^[tr](%d+)$')
      if slice and tonumber(slice) < keep_from then redis.call('HDEL', w.key, field) end
    end
    w.T, w.R = 0, 0
  else
    local fields = {}
    for slice = w.oldest, keep_from - 1 do
      fields[#fields + 1] = 't' .. int(slice)
      fields[#fields + 1] = 'r' .. int(slice)
    end
    local values = redis.call('HMGET', w.key, unpack(fields))
    for i = 1, #fields, 2 do
      w.T = w.T - (number(values[i]) or 0)
      w.R = w.R - (number(values[i + 1]) or 0)
    end
    redis.call('HDEL', w.key, unpack(fields))
  end
  w.oldest = keep_from
  save(w)
end

local function read(scope, now, known)
  local w = {key = window.key(scope.name)}
  local v = redis.call('HMGET', w.key, 'a', 's', 'T', 'R', 'F', 'o', 'l', 'q', 'B', 'N', 'K', 'V', 'C', 'D')
  w.skew = number(v[2]) or 0
  local last = number(v[1])
  local set_back = last and now + w.skew < last
  if set_back then w.skew = last - now end
  w.now = now + w.skew
  w.T, w.R, w.F, w.V = number(v[3]) or 0, number(v[4]) or 0, number(v[5]) or 0, number(v[12]) or 0
  w.C, w.D = number(v[13]) or 0, number(v[14]) or 0
  w.oldest = number(v[6]) or math.floor(w.now / SLICE)
  local passed = last and w.now - last or 0
  local function refilled(level, per_minute)
    if not per_minute then return 0 end
    return (number(level) or per_minute * 1000) + math.floor(passed * per_minute * 1000 / MINUTE)
  end
  w.l, w.q = refilled(v[7], known.tokens), refilled(v[8], known.requests)
  if v[9] then w.big, w.need, w.took = v[9], tonumber(v[10]), tonumber(v[11]) end
  -- Kept at once: while calls are refused nothing else is saved, and this window's time would stand still.
  if set_back then save(w) end
  return w
end

-- The window of a scope as it stands now: read once per script. The spec is taken anew each time, since a settle
-- earlier in the script went by the limits of its receipt, which may be older.
function window.open(spec, scope, now)
  local known = learned.of(scope, now)
  local w = loaded[scope.name] or read(scope, now, known)
  loaded[scope.name] = w
  w.span, w.mode, w.limit, w.requests, w.known = spec.span, spec.mode, known.tokens, known.requests, known
  w.foresight = spec.estimates == 'learned'
  w.l, w.q = math.min(w.l, (w.limit or 0) * 1000), math.min(w.q, (w.requests or 0) * 1000)
  if w.mode == 'strict' then advance(w) end
  return w
end

-- What was learned has changed: the windows are read anew when they are next asked for.
function window.forget() loaded = {} end

-- ms until `excess` of the counted tokens (kind 't') or requests ('r') have left; nil if only a settle can help.
local function until_left(w, kind, excess)
  if excess > (kind == 't' and w.T or w.R) then return nil end
  local newest = math.floor(w.now / SLICE)
  local fields = {}
  for slice = w.oldest, newest do fields[#fields + 1] = kind .. int(slice) end
  local values = redis.call('HMGET', w.key, unpack(fields))
  local gone = 0
  for i = 1, #fields do
    gone = gone + (number(values[i]) or 0)
    if gone >= excess then return math.max(1, (w.oldest + i) * SLICE + w.span - w.now) end
  end
  return nil
end

local function until_refilled(missing, per_minute)
  return math.max(1, math.ceil(missing * MINUTE / (per_minute * 1000)))
end

-- The tokens that will have left in each quarter of a usual call from now.
local function leaving(w)
  if w.leaving then return w.leaving end
  local quarter = w.known.duration / 4
  w.leaving = {0, 0, 0, 0}
  local last = math.min(math.floor(w.now / SLICE), math.floor((w.now + 4 * quarter - w.span) / SLICE) - 1)
  local fields = {}
  for slice = w.oldest, last do fields[#fields + 1] = 't' .. int(slice) end
  if #fields == 0 then return w.leaving end
  local values = redis.call('HMGET', w.key, unpack(fields))
  for i = 1, #fields do
    local left_at = (w.oldest + i) * SLICE + w.span - w.now
    for k = 1, 4 do
      if left_at <= k * quarter then w.leaving[k] = w.leaving[k] + (number(values[i]) or 0) end
    end
  end
  return w.leaving
end

-- The tokens by which expected ones pass a strict window, at the worst of four moments of the next calls: what is in
-- flight comes in evenly while the oldest slices leave, spread by a normal distribution.
local function expected_excess(w, tokens, variance)
  local worst, left = -math.huge, leaving(w)
  for k = 1, 4 do
    local share = k / 4
    local spread = learned.spread(w.known.z, w.V, variance, share)
    worst = math.max(worst, w.T - left[k] + math.ceil(share * (w.F + tokens)) + spread - w.limit)
  end
  return worst
end

-- Calls on expected tokens are spread: no more is in flight than a quarter above what the limit lets end in the time of a
-- usual call. Bursts would come back each minute, and a window that one of them passes stays over for most of it; an even
-- flow leaves it at once.
local function enough_in_flight(w)
  return w.foresight and w.known.duration > 0 and w.F * MINUTE >= 1.25 * w.limit * w.known.duration
end

-- ms until `tokens` more fit one window: 0 if they do, nil if only a settle can help.
local function until_tokens(w, tokens, variance)
  if not w.limit then return 0 end
  if enough_in_flight(w) then return nil end
  local less = w.known.less_tokens
  local spread = w.foresight and learned.spread(w.known.z, w.V, variance, 1) or 0
  if w.mode == 'strict' then
    local excess = (w.foresight and expected_excess(w, tokens, variance) or w.T + w.F + tokens - w.limit) + less
    if excess <= 0 then return 0 end
    local wait = until_left(w, 't', excess)
    if less == 0 then return wait end
    local believed = math.max(1, w.known.until_tokens - w.now)
    return wait and math.min(wait, believed) or believed
  end
  local missing = (w.F + tokens + spread + less) * 1000 - w.l
  if missing <= 0 then return 0 end
  if w.F + tokens + spread > w.limit then return nil end
  return until_refilled(missing, w.limit)
end

-- The same for one more request.
local function until_request(w)
  if not w.requests then return 0 end
  if w.mode == 'strict' then
    local excess = w.R + w.known.less_requests + 1 - w.requests
    if excess <= 0 then return 0 end
    return until_left(w, 'r', excess)
  end
  local missing = (w.known.less_requests + 1) * 1000 - w.q
  if missing <= 0 then return 0 end
  return until_refilled(missing, w.requests)
end

-- What `tokens` more and one more request lack in one window: nil when they fit, else the reason ('provider_tokens',
-- 'provider_requests') and the ms until they may (nil: only a settle can tell).
local function lacks(w, tokens, variance)
  local for_tokens, for_request = until_tokens(w, tokens, variance), until_request(w)
  if for_tokens == 0 and for_request == 0 then return nil end
  local reason = for_tokens == 0 and 'provider_requests' or 'provider_tokens'
  return reason, for_tokens and for_request and math.max(for_tokens, for_request)
end

-- Whether a request of `tokens` (with a variance, where they are expected ones: learned.expected) fits every window of
-- the spec; changes nothing but what time has changed anyway.
-- nil when it does; else reason, wait in ms (nil: only a settle can tell), and the windows that refused its tokens.
function window.refusal(spec, now, tokens, variance)
  local reason, wait, full = nil, 0, {}
  for _, scope in ipairs(spec.scopes) do
    local w = window.open(spec, scope, now)
    local why, ms = lacks(w, tokens, variance or 0)
    if why then
      if why == 'provider_tokens' then full[#full + 1] = w end
      reason = reason or why
      wait = (wait and ms) and math.max(wait, ms) or nil
    end
  end
  return reason, wait, full
end

-- Whether `tokens` could ever fit the limits of the spec as configured: a learned one recovers.
function window.possible(spec, tokens)
  for _, scope in ipairs(spec.scopes) do
    if scope.tokens and tokens > scope.tokens then return false end
  end
  return true
end

-- Charges w by the sign of tokens and requests, in a slice that still counts; one that has left stays as it is.
function window.charge(w, slice, tokens, requests)
  if w.mode ~= 'strict' then
    w.l, w.q = w.l - tokens * 1000, w.q - requests * 1000
    return save(w)
  end
  if slice < w.oldest then return save(w) end
  w.T, w.R = w.T + tokens, w.R + requests
  if tokens ~= 0 then redis.call('HINCRBY', w.key, 't' .. int(slice), int(tokens)) end
  if requests ~= 0 then redis.call('HINCRBY', w.key, 'r' .. int(slice), int(requests)) end
  save(w)
end

-- What is left of a window's tokens and requests; nil for unlimited.
function window.left(w)
  if w.mode ~= 'strict' then
    return w.limit and math.floor(w.l / 1000) - w.F, w.requests and math.floor(w.q / 1000)
  end
  return w.limit and w.limit - w.T - w.F, w.requests and w.requests - w.R
end

-- What is used of the spec's windows: per scope {name, limit, charged, in flight, requests limit, requests}.
function window.view(spec, now)
  local views = {}
  for i, scope in ipairs(spec.scopes) do
    local w = window.open(spec, scope, now)
    local charged, requests = w.T, w.R
    if w.mode ~= 'strict' then
      charged = w.limit and math.ceil(w.limit - w.l / 1000) or 0
      requests = w.requests and math.ceil(w.requests - w.q / 1000) or 0
    end
    views[i] = {scope.name, scope.tokens or false, charged, w.F, scope.requests or false, requests}
  end
  return views
end
