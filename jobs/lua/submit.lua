-- submit: count the request, check what must hold, promise the budget, write the job into its lane, wake a worker.
-- ARGV     epoch, now ('' = server), id, head (JSON: u n pr w rt nb pt ot et rp, x as ms after now), info, body,
--          digest of the idempotency key ('' = none), digest of the payload
-- Returns  {'accepted' | 'replayed', limits, id, view...} | {refusal, limits, wait ms or -1, detail}; see record.lua
-- Touches  rate.lua, budget.lua, record.lua, lane.lua, counts.lua, wake.lua; idem:<user>:<digest>, sequence, expiries, due,
--          dead
-- A repeated call for one id (its answer was lost) answers as the first did and counts nothing.
-- @use epoch
-- @use room
-- @use record
-- @use lane
-- @use wake
-- @use figures
-- @rarely waiting

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local id, head, info, body, digest, payload = ARGV[3], cjson.decode(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local who = head.u

local rates = nil

local function accepted(how, job)
  return {how, record.limits(who, now, rates), job, unpack(record.view(job, now), 1, 6)}
end

local function refused(reason, wait, detail)
  return {reason, record.limits(who, now, rates), wait and int(wait) or -1, detail or ''}
end

-- ms until the first of the user's jobs of this name leaves the queue, as far as that is known; at least a second.
local function until_one_starts()
  local first = lane.heads(head.n, who)[1]
  local waits = first and record.load(first[2])
  local start = waits and waiting.of(first[2], waits, now)[3]
  return math.max(1000, start and start - now or 0)
end

-- Checks. The rate counts what comes after it, whatever that answers; a replay is the operator's doing, not the user's.
if redis.call('EXISTS', key.job(id)) == 1 then return accepted('accepted', id) end
local limits = user.limits(who)
if not head.rp then
  local allowed, wait
  allowed, wait, rates = rate.hit(who, limits.rate, now)
  if not allowed then return refused('rate_limited', wait) end
end

local first = digest ~= '' and redis.call('GET', key.idempotency(who, digest))
if first then
  local known, same = string.match(first, '^(%S+) (.*)$')
  if same ~= payload then return refused('idempotency_key_reused') end
  if redis.call('EXISTS', key.job(known)) == 1 then return accepted('replayed', known) end
end

local everybody = user.anonymous(who) and number(redis.call('HGET', key.ANONYMOUS, 'tokens_per_day')) or nil
local most = math.min(limits.tokens_per_day or math.huge, everybody or math.huge, limits.max_queued_tokens or math.huge)
if head.et > most then return refused('job_too_large', nil, string.format('%.0f', most)) end
local queue = counts.of(who)
if (limits.max_queued_jobs and queue.jobs + 1 > limits.max_queued_jobs)
  or (limits.max_queued_tokens and queue.tokens + head.et > limits.max_queued_tokens) then
  return refused('queue_full', until_one_starts())
end
local day = day_of(math.max(now, head.nb or 0))
if not head.w then
  if not budget.fits(who, day, id, head.et, limits.tokens_per_day)
    or not budget.fits(user.EVERYBODY, day, id, head.et, everybody) then
    return refused('budget_exhausted', start_of(day) + DAY_MS - now)
  end
end

-- Writes.
if head.rp then redis.call('ZREM', key.DEAD, head.rp) end
head.c, head.x, head.st, head.at, head.v = now, now + head.x, 'queued', 0, 0
if limits.tier ~= '' then head.ti = limits.tier end
head.q, head.ct = redis.call('INCR', key.SEQUENCE), counts.line_up(head)
local keep = tonumber(redis.call('HGET', key.RETENTION, 'jobs') or DAY_MS)
local latest_end = head.x + DAY_MS
if not head.w then
  head.day = day
  budget.hold(who, day, id, head.et, latest_end, now)
  if user.anonymous(who) then budget.hold(user.EVERYBODY, day, id, head.et, latest_end, now) end
end
if digest ~= '' then
  head.ik = digest
  redis.call('SET', key.idempotency(who, digest), id .. ' ' .. payload, 'PX', int(latest_end + keep - now))
end
local stored = record.save(id, head, 'i', info, 'b', body)
redis.call('ZADD', key.EXPIRIES, int(head.x), id)
local index = key.jobs_of(who)
if string.byte(id, -1) % 4 == 0 then members.tidy(index, key.job, head.q) end
redis.call('ZADD', index, 0, id)
keep_until(index, latest_end + keep, now)
counts.move(head, 1, 0)
if head.nb and head.nb > now then
  redis.call('ZADD', key.DUE, int(head.nb), id)
else
  lane.add(id, head)
  wake.push(now, 1)
end
figures.submitted(head)
return {'accepted', record.limits(who, now, rates), id, stored, info, false, false, waiting.of(id, head, now), false}
