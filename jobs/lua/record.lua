-- record: a job's record.
-- State
--   job:<id>   hash: h  the head, JSON that scripts read and change (fields below)
--                    i  what only the API reads: endpoint, custom_id, metadata (opaque)
--                    b  the provider's request body (opaque);  r  its response body (opaque);  e  the error (opaque JSON)
--                    w  how its webhooks stand (outbox.lua)
--   jobs:<user>   zset of the user's jobs, all scores 0: in the order of their ids, which is that of their times
-- The head (absent: not set; times in ms)
--   u user, n served name, pr priority class (i, s, b), w waits for a budget, rt retry (safe, never), st state, v version
--   c created, nb not before, x expires, q sequence, sa started, as this attempt, fa finished, bk waiting between attempts
--   pt, ot, et estimated tokens (prompt, output, both), day of the budget hold, ti tier, ik key digest of idempotency
--   at attempts, th throttled in a row, un attempts of unknown outcome, fc failed connections in a row, dw dead workers
--   lt lease token (also the receipt of the attempt), wk worker, po pool, wt and nw weights of its last turn
--   en endpoint, where it is not that of chats;  wu, wl its own webhook_url and the lane of that (outbox.lua)
--   rp the dead job it replays;  cx asked to end: 'cancelled' or 'expired';  us usage {p, c, t, h, s};  co cost in nano-USD
-- @use clock
-- @use keys
-- @use lane
-- @use pool
-- @use overtaking
-- @use rate
-- @use budget

local record = {}

function record.load(id)
  local stored = redis.call('HGET', key.job(id), 'h')
  return stored and cjson.decode(stored) or nil
end

function record.save(id, head, ...)
  head.v = (head.v or 0) + 1
  redis.call('HSET', key.job(id), 'h', cjson.encode(head), ...)
end

function record.final(head) return head.st ~= 'queued' and head.st ~= 'running' end

-- Why a queued job is not running, and when it may: reason or nil, ms (Unix) or nil.
local function blocked(id, head, now)
  local due = number(redis.call('ZSCORE', key.DUE, id))
  if due then return head.bk and 'backoff' or 'not_before', due end
  local parked = redis.call('HGET', key.parked(head.u), head.n)
  if parked then return parked end
  local limits = user.limits(head.u)
  if head.w and not head.day and not budget.fits(head.u, day_of(now), id, head.et, limits.tokens_per_day) then
    return 'user_budget'
  end
  local reason, at = nil, nil
  for _, name in ipairs(pool.of(head.n) or {}) do
    local settings = pool.settings(name)
    if settings then
      local paused = pool.paused(name, now)
      local why, wait = 'provider_paused', paused
      if paused == 0 then
        why, wait = window.refusal(settings.spec, now, learned.expected(settings.spec, head.u, head.pt, head.ot))
        if not why and overtaking.kept_from(settings.spec, now, id, head.et) then why, wait = 'provider_tokens', nil end
      end
      if not why then
        reason, at = nil, nil
        break
      end
      if not reason then reason, at = why, wait and now + wait or nil end
    end
  end
  if reason then return reason, at end
  if redis.call('ZCOUNT', key.ASLEEP, int(now), '+inf') == 0 then return 'concurrency' end
  return nil, now
end

-- When a job that waits behind others may start: the tokens ahead of it at the rate of its first pool's windows.
local function estimated_start(head, position, at, now)
  if not at or not position then return nil end
  if position == 0 then return at end
  local backlog = redis.call('HMGET', key.backlog(head.n), 'jobs', 'tokens')
  local first = (pool.of(head.n) or {})[1]
  local settings = first and pool.settings(first)
  if not settings then return nil end
  local per_minute = nil
  for _, scope in ipairs(settings.spec.scopes) do
    if scope.tokens then per_minute = math.min(per_minute or scope.tokens, scope.tokens) end
  end
  if not per_minute then return nil end
  local each = (number(backlog[2]) or 0) / math.max(1, number(backlog[1]) or 1)
  return at + math.floor(position * each * MINUTE / per_minute)
end

-- What a poll adds to the head, as JSON: why it waits, its position and its start, all for queued jobs alone.
function record.waiting(id, head, now)
  if head.st ~= 'queued' then return '{}' end
  local reason, at = blocked(id, head, now)
  local position = lane.position(id, head)
  local start = estimated_start(head, position, at, now)
  if reason == 'not_before' or reason == 'backoff' then start = at end
  return cjson.encode({b = reason, p = position, s = start and math.floor(start) or nil, now = now})
end

-- A user's limits and what is left of them, as JSON. rates: what rate.hit has just told, if it was asked.
function record.limits(id, now, rates)
  local limits = user.limits(id)
  rates = rates or rate.view(id, limits.rate, now)
  local day = day_of(now)
  local total, held = budget.view(id, day)
  local queue = redis.call('HMGET', key.queue(id), 'jobs', 'tokens', 'running')
  return cjson.encode({
    tier = limits.tier, rl = limits.requests_per_minute, rr = rates.remaining, rs = rates.reset,
    rb = rates.blocked > 0 and rates.blocked or nil, bs = limits.rate.block, rd = limits.requests_per_day,
    tl = limits.tokens_per_day, tt = total, th = held, tm = midnight_after(now) - now, day = day,
    mc = limits.max_concurrent, mj = limits.max_queued_jobs, mt = limits.max_queued_tokens,
    qj = number(queue[1]) or 0, qt = number(queue[2]) or 0, ru = number(queue[3]) or 0, now = now,
  })
end

-- A job as a poll gets it: {head, info, result, error, waiting, webhooks}.
function record.view(id, now, head)
  local v = redis.call('HMGET', key.job(id), 'h', 'i', 'r', 'e', 'w')
  return {v[1], v[2], v[3], v[4], record.waiting(id, head or cjson.decode(v[1]), now), v[5]}
end
