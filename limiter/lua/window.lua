-- window: a provider's tokens and requests per minute, for a provider as a whole and for a model of its own.
-- State
--   window:<scope>   JSON array, one per provider or provider/model, by place:
--       1 2          last time seen (ms), and what is added to `now` so that this window's time never runs backwards
--       3 4          tokens and requests charged in the slices that still count
--       5 6          tokens in flight: held until their call is settled, counted in full; their variance, where they are
--                    expected ones (learned.lua)
--       7 8          all tokens and requests that were ever taken, to tell what was taken since
--       9 10         the oldest slice that still counts, and the newest with anything in it (slices are SLICE ms long)
--       11 12        tokens and requests charged in that newest slice
--       13 14        mirror mode: tokens and requests in the provider's bucket, in thousandths, at the last time seen
--       15 16 17     a large job this window is kept free for, what it needs, what has overtaken it since; or absent
--   slices:<scope>   list: tokens, requests of each slice from the oldest to the last but the newest
-- Whatever a request changes is in the one short string; a slice costs a write of its own once, when it is over.
-- A spec (of one pool) is {pool, accounting, mode, estimates, span, scopes = {{name, tokens, requests}, ...}}: span in
-- ms is the minute plus the margin; tokens and requests per minute, nil for unlimited.
-- strict: a sliding window of whole slices, so a part-slice always counts: never over the limit in any minute.
-- mirror: the provider's own bucket (L tokens, refilled L a minute), with its burst. What is refilled within the margin is
-- left in it, since a request may be longer on its way than the next one; only a full bucket is emptied to the last.
-- @use clock
-- @use learned

local window = {}
local SLICE = 500
local MINUTE = 60000
-- '%d' costs a third of '%.0f', and all of these are whole.
local STATE = '[%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d%s]'

-- The slice of this moment.
function window.slice(w) return math.floor(w.now / SLICE) end

function window.key(scope) return 'window:' .. scope end
function window.slices_key(scope) return 'slices:' .. scope end

local loaded = {}

function window.save(w)
  local kept = w.big and string.format(',%s,%d,%d', cjson.encode(w.big), w.need, w.took) or ''
  redis.call('SET', w.key, string.format(STATE, w.now, w.skew, w.T, w.R, w.F, w.V, w.C, w.D, w.oldest, w.newest, w.t, w.r,
    w.l, w.q, kept))
end

-- Drops the slices that have left: those that ended `span` or more before now.
local function advance(w)
  local keep_from = math.floor((w.now - w.span) / SLICE)
  if w.oldest >= keep_from then return end
  local left = math.min(keep_from, w.newest) - w.oldest
  if left > 0 then
    local values = redis.call('LRANGE', w.slices, 0, int(2 * left - 1))
    for i = 1, #values, 2 do w.T, w.R = w.T - tonumber(values[i]), w.R - tonumber(values[i + 1]) end
    redis.call('LTRIM', w.slices, int(2 * left), -1)
  end
  if w.newest < keep_from then
    w.T, w.R = w.T - w.t, w.R - w.r
    w.newest, w.t, w.r = keep_from, 0, 0
  end
  w.oldest = keep_from
  window.save(w)
end

-- Makes the present slice the newest; those before it are written down.
local function begin_slice(w)
  local present = math.floor(w.now / SLICE)
  if w.newest == present then return end
  if w.newest == w.oldest and w.t == 0 and w.r == 0 then
    w.oldest = present
  else
    local over = {int(w.t), int(w.r)}
    for i = 3, 2 * (present - w.newest) do over[i] = '0' end
    redis.call('RPUSH', w.slices, unpack(over))
  end
  w.newest, w.t, w.r = present, 0, 0
end

local function read(scope, now, known)
  local k = window.key(scope.name)
  local stored = redis.call('GET', k)
  local v = stored and cjson.decode(stored) or {now, 0, 0, 0, 0, 0, 0, 0}
  local last, set_back = v[1], now + v[2] < v[1]
  local skew = set_back and last - now or v[2]
  local at = now + skew
  local function refilled(level, per_minute)
    if not per_minute then return 0 end
    return (level or per_minute * 1000) + math.floor((at - last) * per_minute * 1000 / MINUTE)
  end
  local oldest = v[9] or math.floor(at / SLICE)
  -- All its fields at once, those of window.open too: a table that grows field by field costs more than reading it.
  local w = {
    key = k, slices = window.slices_key(scope.name), skew = skew, now = at,
    T = v[3], R = v[4], F = v[5], V = v[6], C = v[7], D = v[8], oldest = oldest, newest = v[10] or oldest,
    t = v[11] or 0, r = v[12] or 0, l = refilled(v[13], known.tokens), q = refilled(v[14], known.requests),
    big = v[15], need = v[16], took = v[17],
    span = 0, mode = '', limit = 0, requests = 0, known = known, spec = false, foresight = false,
  }
  -- Kept at once: while calls are refused nothing else is saved, and this window's time would stand still.
  if set_back then window.save(w) end
  return w
end

-- The window of a scope as it stands now: read once per script. The spec is taken anew each time, since a settle
-- earlier in the script went by the limits of its receipt, which may be older.
function window.open(spec, scope, now)
  if loaded[scope.name] and loaded[scope.name].spec == spec then return loaded[scope.name] end
  local known = learned.of(scope, now)
  local w = loaded[scope.name] or read(scope, now, known)
  loaded[scope.name] = w
  w.span, w.mode, w.limit, w.requests, w.known = spec.span, spec.mode, known.tokens, known.requests, known
  w.spec, w.foresight = spec, spec.estimates == 'learned'
  w.l, w.q = math.min(w.l, (w.limit or 0) * 1000), math.min(w.q, (w.requests or 0) * 1000)
  if w.mode == 'strict' then advance(w) end
  return w
end

-- What was learned has changed: the windows are read anew when they are next asked for.
function window.forget() loaded = {} end

-- What was charged in slice `i` (0: the oldest) and up to 15 after it, but the newest: a list, tokens and requests in turn.
function window.some_slices(w, i) return redis.call('LRANGE', w.slices, int(2 * i), int(2 * i + 31)) end

-- ms until slice `i` (0: the oldest) has left.
function window.leaves_in(w, i) return math.max(1, (w.oldest + i + 1) * SLICE + w.span - w.now) end

-- ms until `excess` of the counted tokens (first 1) or requests (2) have left; nil if only a settle can help.
local function until_left(w, first, excess)
  if excess > (first == 1 and w.T or w.R) then return nil end
  local gone, i = 0, 0
  while w.oldest + i < w.newest and gone < excess do
    local values = window.some_slices(w, i)
    for k = first, #values, 2 do
      gone, i = gone + tonumber(values[k]), i + 1
      if gone >= excess then break end
    end
  end
  if gone < excess then i = w.newest - w.oldest + 1 end
  return window.leaves_in(w, i - 1)
end

-- ms until a bucket of `per_minute` that holds `level` thousandths has `amount`, and what it keeps; 0 if it has.
local function until_refilled(w, level, amount, less, per_minute)
  local kept = math.floor(per_minute * (w.span - MINUTE) * 1000 / MINUTE)
  local missing = math.min(amount * 1000 + kept, per_minute * 1000) + less * 1000 - level
  return math.max(0, math.ceil(missing * MINUTE / (per_minute * 1000)))
end

-- The tokens that will have left in each quarter of a usual call from now.
local function leaving(w)
  if w.leaving then return w.leaving end
  local quarter = w.known.duration / 4
  w.leaving = {0, 0, 0, 0}
  local last, i = math.min(w.newest, math.floor((w.now + 4 * quarter - w.span) / SLICE) - 1), 0
  while w.oldest + i <= last do
    local values = w.oldest + i < w.newest and window.some_slices(w, i) or {w.t, w.r}
    for n = 1, #values, 2 do
      i = i + 1
      local left_at = (w.oldest + i) * SLICE + w.span - w.now
      for k = 1, 4 do
        if left_at <= k * quarter then w.leaving[k] = w.leaving[k] + tonumber(values[n]) end
      end
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
local function wait_for_tokens(w, tokens, variance)
  if not w.limit then return 0 end
  if enough_in_flight(w) then return nil end
  local less = w.known.less_tokens
  local spread = w.foresight and learned.spread(w.known.z, w.V, variance, 1) or 0
  if w.mode == 'strict' then
    local excess = (w.foresight and expected_excess(w, tokens, variance) or w.T + w.F + tokens - w.limit) + less
    if excess <= 0 then return 0 end
    local wait = until_left(w, 1, excess)
    if less == 0 then return wait end
    local believed = math.max(1, w.known.until_tokens - w.now)
    return wait and math.min(wait, believed) or believed
  end
  if w.F + tokens + spread > w.limit then return nil end
  return until_refilled(w, w.l, w.F + tokens + spread, less, w.limit)
end

-- The same for one more request.
local function wait_for_request(w)
  if not w.requests then return 0 end
  if w.mode == 'strict' then
    local excess = w.R + w.known.less_requests + 1 - w.requests
    if excess <= 0 then return 0 end
    return until_left(w, 2, excess)
  end
  return until_refilled(w, w.q, 1, w.known.less_requests, w.requests)
end

-- What `tokens` more and one more request lack in one window: nil when they fit, else the reason ('provider_tokens',
-- 'provider_requests') and the ms until they may (nil: only a settle can tell).
local function lacks(w, tokens, variance)
  local for_tokens, for_request = wait_for_tokens(w, tokens, variance), wait_for_request(w)
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

local function add_to_slice(w, place, amount)
  if amount == 0 then return end
  redis.call('LSET', w.slices, int(place), int(tonumber(redis.call('LINDEX', w.slices, int(place))) + amount))
end

-- Charges w by the sign of tokens and requests, in a slice that still counts; one that has left stays as it is.
function window.charge(w, slice, tokens, requests)
  if w.mode ~= 'strict' then
    w.l, w.q = w.l - tokens * 1000, w.q - requests * 1000
    return window.save(w)
  end
  begin_slice(w)
  if slice < w.oldest then return window.save(w) end
  w.T, w.R = w.T + tokens, w.R + requests
  if slice >= w.newest then
    w.t, w.r = w.t + tokens, w.r + requests
  else
    add_to_slice(w, 2 * (slice - w.oldest), tokens)
    add_to_slice(w, 2 * (slice - w.oldest) + 1, requests)
  end
  window.save(w)
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
