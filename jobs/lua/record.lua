-- record: a job's record.
-- State
--   job:<id>   hash: h  the head, JSON that scripts read and change (fields below)
--                    i  what only the API reads: endpoint, custom_id, metadata (opaque, but for list.lua's filter)
--                    b  the provider's request body (opaque);  r  its response body (opaque);  e  the error (opaque JSON)
--                    w  how its webhooks stand (outbox.lua)
--   jobs:<user>   zset of the user's jobs, all scores 0: in the order of their ids, which is that of their times
-- The head (absent: not set; times in ms)
--   u user, n served name, pr priority class (i, s, b), w waits for a budget, rt retry (safe, never), st state, v version
--   c created, nb not before, x expires, q sequence, sa started, as this attempt, fa finished, bk waiting between attempts
--   pt, ot, et estimated tokens (prompt, output, both), ct all that were submitted to its class until then
--   day of the budget hold, ti tier, ik key digest of idempotency
--   at attempts, th throttled in a row, un attempts of unknown outcome, fc failed connections in a row, dw dead workers
--   lt lease token (also the receipt of the attempt), wk worker, po pool, wt and nw weights of its last turn
--   en endpoint, where it is not that of chats;  wu, wl its own webhook_url and the lane of that (outbox.lua)
--   rp the dead job it replays;  cx asked to end: 'cancelled' or 'expired';  us usage {p, c, t, h, s};  co cost in nano-USD
-- @use clock
-- @use keys
-- @use members
-- @use counts
-- @use user
-- @use rate
-- @use budget
-- @rarely waiting

local record = {}

function record.load(id)
  local stored = redis.call('HGET', key.job(id), 'h')
  return stored and cjson.decode(stored) or nil
end

-- Writes the head, and other fields with it; answers the head as it is stored.
function record.save(id, head, ...)
  head.v = (head.v or 0) + 1
  local stored = cjson.encode(head)
  redis.call('HSET', key.job(id), 'h', stored, ...)
  return stored
end

function record.final(head) return head.st ~= 'queued' and head.st ~= 'running' end

-- A user's limits and what is left of them, false for what is unlimited: tier; requests: limit, left, ms until all are,
-- blocked until, block; requests a day; tokens a day: limit, used and held, held, ms until they are new, the day; most
-- concurrent, queued jobs, queued tokens; queued jobs and tokens, running; now.
-- rates: what rate.hit has just told, if it was asked.
function record.limits(id, now, rates)
  local limits = user.limits(id)
  rates = rates or rate.view(id, limits.rate, now)
  local day = day_of(now)
  local total, held = budget.view(id, day)
  local queue = counts.of(id)
  return {
    limits.tier, limits.requests_per_minute or false, rates.remaining or false, rates.reset,
    rates.blocked > 0 and rates.blocked, limits.rate.block, limits.requests_per_day or false,
    limits.tokens_per_day or false, total, held, midnight_after(now) - now, day,
    limits.max_concurrent or false, limits.max_queued_jobs or false, limits.max_queued_tokens or false,
    queue.jobs, queue.tokens, queue.running, now,
  }
end

-- What is stored of a job that its user sees: {head, info, result, error, webhooks}, all false if there is none.
function record.stored(id) return redis.call('HMGET', key.job(id), 'h', 'i', 'r', 'e', 'w') end

-- A job as a poll gets it: {head, info, result, error, waiting, webhooks}; see waiting.of.
function record.view(id, now)
  local v = record.stored(id)
  local head = cjson.decode(v[1])
  return {v[1], v[2], v[3], v[4], head.st == 'queued' and waiting.of(id, head, now) or {}, v[5]}
end
