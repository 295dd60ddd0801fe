-- window: a provider's tokens and requests per minute, for a provider as a whole and for a model of its own.
-- State
--   window:<scope>   hash, one per provider or provider/model
--       t<i> r<i>    tokens and requests charged in slice i (SLICE ms long)
--       T R          their sums over the slices that still count;  o  the oldest of those slices
--       F            tokens in flight: held until their call is settled, counted in full
--       a s          last time seen, and what is added to `now` so that this window's time never runs backwards
--       l q          mirror mode: tokens and requests in the provider's bucket, in thousandths, at time `a`
--       B N K        a large job this window is kept free for, what it needs, what has overtaken it since
--   receipts         hash: receipt id -> what one attempt has taken, until it is settled
--   receipts:due     zset: receipt id -> ms by which its call has ended, whatever became of it
-- A spec (of one pool) is {accounting, mode, span, scopes = {{name, tokens, requests}, ...}}: span in ms is the minute
-- plus the margin; tokens and requests per minute, nil for unlimited.
-- strict: a sliding window of whole slices, so a part-slice always counts: never over the limit in any minute.
-- mirror: the provider's own bucket (L tokens, refilled L a minute), with its burst.
-- @use clock

local window = {}
local SLICE = 500
local MINUTE = 60000

function window.key(scope) return 'window:' .. scope end
local RECEIPTS, RECEIPTS_DUE = 'receipts', 'receipts:due'

local loaded = {}

local function save(w)
  redis.call('HSET', w.key, 'a', int(w.now), 's', int(w.skew), 'T', int(w.T), 'R', int(w.R), 'F', int(w.F),
    'o', int(w.oldest), 'l', int(w.l), 'q', int(w.q))
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

local function read(scope, now)
  local w = {key = window.key(scope.name)}
  local v = redis.call('HMGET', w.key, 'a', 's', 'T', 'R', 'F', 'o', 'l', 'q', 'B', 'N', 'K')
  w.skew = number(v[2]) or 0
  local last = number(v[1])
  local set_back = last and now + w.skew < last
  if set_back then w.skew = last - now end
  w.now = now + w.skew
  w.T, w.R, w.F = number(v[3]) or 0, number(v[4]) or 0, number(v[5]) or 0
  w.oldest = number(v[6]) or math.floor(w.now / SLICE)
  local passed = last and w.now - last or 0
  local function bucket(level, per_minute)
    if not per_minute then return 0 end
    return math.min(per_minute * 1000, (number(level) or per_minute * 1000) + math.floor(passed * per_minute * 1000 / MINUTE))
  end
  w.l, w.q = bucket(v[7], scope.tokens), bucket(v[8], scope.requests)
  if v[9] then w.big, w.need, w.took = v[9], tonumber(v[10]), tonumber(v[11]) end
  -- Kept at once: while calls are refused nothing else is saved, and this window's time would stand still.
  if set_back then save(w) end
  return w
end

-- The window of a scope as it stands now: read once per script. The spec is taken anew each time, since a settle
-- earlier in the script went by the limits of its receipt, which may be older.
local function open(spec, scope, now)
  local w = loaded[scope.name] or read(scope, now)
  loaded[scope.name] = w
  w.span, w.mode, w.limit, w.requests = spec.span, spec.mode, scope.tokens, scope.requests
  if w.mode == 'strict' then
    advance(w)
  else
    w.l, w.q = math.min(w.l, (w.limit or 0) * 1000), math.min(w.q, (w.requests or 0) * 1000)
  end
  return w
end

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

-- ms until `tokens` more fit one window: 0 if they do, nil if only a settle can help.
local function until_tokens(w, tokens)
  if not w.limit then return 0 end
  if w.mode == 'strict' then
    local excess = w.T + w.F + tokens - w.limit
    if excess <= 0 then return 0 end
    return until_left(w, 't', excess)
  end
  local missing = (w.F + tokens) * 1000 - w.l
  if missing <= 0 then return 0 end
  if w.F + tokens > w.limit then return nil end
  return until_refilled(missing, w.limit)
end

-- The same for one more request.
local function until_request(w)
  if not w.requests then return 0 end
  if w.mode == 'strict' then
    local excess = w.R + 1 - w.requests
    if excess <= 0 then return 0 end
    return until_left(w, 'r', excess)
  end
  if w.q >= 1000 then return 0 end
  return until_refilled(1000 - w.q, w.requests)
end

-- What `tokens` more and one more request lack in one window: nil when they fit, else the reason ('provider_tokens',
-- 'provider_requests') and the ms until they may (nil: only a settle can tell).
local function lacks(w, tokens)
  local for_tokens, for_request = until_tokens(w, tokens), until_request(w)
  if for_tokens == 0 and for_request == 0 then return nil end
  local reason = for_tokens == 0 and 'provider_requests' or 'provider_tokens'
  return reason, for_tokens and for_request and math.max(for_tokens, for_request)
end

-- Whether a request of `tokens` fits every window of the spec; changes nothing but what time has changed anyway.
-- nil when it does; else reason, wait in ms (nil: only a settle can tell), and the windows that refused its tokens.
function window.refusal(spec, now, tokens)
  local reason, wait, full = nil, 0, {}
  for _, scope in ipairs(spec.scopes) do
    local w = open(spec, scope, now)
    local why, ms = lacks(w, tokens)
    if why then
      if why == 'provider_tokens' then full[#full + 1] = w end
      reason = reason or why
      wait = (wait and ms) and math.max(wait, ms) or nil
    end
  end
  return reason, wait, full
end

-- Whether `tokens` could ever fit the limits of the spec as they stand.
function window.possible(spec, tokens)
  for _, scope in ipairs(spec.scopes) do
    if scope.tokens and tokens > scope.tokens then return false end
  end
  return true
end

-- Charges w by the sign of tokens and requests, in a slice that still counts; one that has left stays as it is.
local function charge(w, slice, tokens, requests)
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

-- Takes what the attempt `id` may be charged, in all windows of the spec, and writes its receipt. Call it only where
-- window.refusal said nil. A receipt that is there already stays as it is.
-- input, output: estimated tokens; deadline: ms by which the call has ended in any case; note: text for window.note.
function window.take(spec, now, id, input, output, deadline, note)
  if redis.call('HEXISTS', RECEIPTS, id) == 1 then return end
  local charged, flying = input + output, 0
  if spec.accounting == 'actual' then
    charged, flying = 0, input + output
  elseif spec.accounting == 'anthropic' then
    charged, flying = input, output
  end
  local receipt = {a = spec.accounting, m = spec.mode, p = spec.span, n = note, w = {}}
  for _, scope in ipairs(spec.scopes) do
    local w = open(spec, scope, now)
    w.F = w.F + flying
    local slice = math.floor(w.now / SLICE)
    charge(w, slice, charged, 1)
    receipt.w[#receipt.w + 1] = {scope.name, slice, charged, flying, scope.tokens or false, scope.requests or false}
  end
  redis.call('HSET', RECEIPTS, id, cjson.encode(receipt))
  redis.call('ZADD', RECEIPTS_DUE, int(deadline), id)
end

-- What the taker of a receipt that is not yet settled has noted with it, if anything.
function window.note(id)
  local stored = redis.call('HGET', RECEIPTS, id)
  return stored and cjson.decode(stored).n or nil
end

-- Settles the receipt of an attempt, once. `how`:
--   charged      a complete answer: input and output tokens as the provider told them
--   kept         an answer without usage that counts all the same: what was held is charged
--   tokens_back  refused by the provider: the request counts, its tokens do not
--   given_back   never sent: as if it had not been
-- An outcome nobody knows is not settled: the receipt stays until its deadline, then window.sweep keeps it.
function window.settle(now, id, how, input, output)
  local stored = redis.call('HGET', RECEIPTS, id)
  if not stored then return false end
  local receipt = cjson.decode(stored)
  for _, taken in ipairs(receipt.w) do
    local name, slice, charged, flying = taken[1], taken[2], taken[3], taken[4]
    local scope = {name = name, tokens = taken[5] or nil, requests = taken[6] or nil}
    local w = open({span = receipt.p, mode = receipt.m}, scope, now)
    local current = math.floor(w.now / SLICE)
    w.F = math.max(0, w.F - flying)
    if how == 'charged' then
      local late = 0
      if receipt.a == 'actual' then
        late = input + output
      elseif receipt.a == 'anthropic' then
        late = output
      end
      charge(w, current, late, 0)
    elseif how == 'kept' then
      charge(w, current, flying, 0)
    elseif how == 'tokens_back' then
      charge(w, slice, -charged, 0)
    else
      charge(w, slice, -charged, -1)
    end
  end
  redis.call('HDEL', RECEIPTS, id)
  redis.call('ZREM', RECEIPTS_DUE, id)
  return true
end

-- Charges the receipts whose call has certainly ended, at most `most`: their outcome never came.
function window.sweep(now, most)
  local due = redis.call('ZRANGEBYSCORE', RECEIPTS_DUE, '-inf', int(now), 'LIMIT', 0, most)
  for _, id in ipairs(due) do
    if not window.settle(now, id, 'kept') then redis.call('ZREM', RECEIPTS_DUE, id) end
  end
  return #due
end

-- What is used of the spec's windows: per scope {name, limit, charged, in flight, requests limit, requests}.
function window.view(spec, now)
  local views = {}
  for i, scope in ipairs(spec.scopes) do
    local w = open(spec, scope, now)
    local charged, requests = w.T, w.R
    if w.mode ~= 'strict' then
      charged = w.limit and math.ceil(w.limit - w.l / 1000) or 0
      requests = w.requests and math.ceil(w.requests - w.q / 1000) or 0
    end
    views[i] = {scope.name, scope.tokens or false, charged, w.F, scope.requests or false, requests}
  end
  return views
end

-- Bounded overtaking. A job at its turn that a full window refuses keeps that window: smaller ones may go ahead of it
-- only until they have taken as much from it as it needs.
function window.keep_for(w, job, tokens)
  if w.big then return end
  w.big, w.need, w.took = job, tokens, 0
  redis.call('HSET', w.key, 'B', job, 'N', int(tokens), 'K', '0')
end

function window.free(w)
  w.big, w.need, w.took = nil, nil, nil
  redis.call('HDEL', w.key, 'B', 'N', 'K')
end

-- The window of the spec that is kept free for another job, if `tokens` of `job` may not overtake it any more.
function window.kept_from(spec, now, job, tokens)
  for _, scope in ipairs(spec.scopes) do
    local w = open(spec, scope, now)
    if w.big and w.big ~= job and w.took + tokens > w.need then return w end
  end
  return nil
end

-- To be called for every job that took tokens: it ends its own keeping, or counts as having overtaken another.
function window.overtook(spec, now, job, tokens)
  for _, scope in ipairs(spec.scopes) do
    local w = open(spec, scope, now)
    if w.big == job then
      window.free(w)
    elseif w.big then
      w.took = w.took + tokens
      redis.call('HSET', w.key, 'K', int(w.took))
    end
  end
end

-- The jobs that windows of the spec are kept free for: {window, job} each.
function window.kept(spec, now)
  local kept = {}
  for _, scope in ipairs(spec.scopes) do
    local w = open(spec, scope, now)
    if w.big then kept[#kept + 1] = {w, w.big} end
  end
  return kept
end
