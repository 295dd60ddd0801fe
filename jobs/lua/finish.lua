-- finish: what happens when an attempt is over, and when a job is.
-- State
--   leases               zset: '<job> <token>' -> ms at which the lease ends
--   expiries             zset: job -> ms at which it expires, for every job that has not ended
--   due                  zset: job -> ms at which it goes to its lane (not_before, backoff)
--   ledger:<day>         stream: a line per settled or lost attempt whose budget was held on that day
--   usage:<user>:<day>   hash: '<metric>:<name>' -> total (jobs, in, out, cached, cost in nano-USD);  charged:<day>  set
--   dead                 zset: job that failed for good -> ms
--   config:retention     hash: jobs (ms), ledger, usage, dead (days)
-- @use record
-- @use lane
-- @use wake
-- @use figures
-- @rarely pool
-- @rarely receipt
-- @rarely outbox

local finish = {}

-- Under whom the ledger puts attempts that were paid for and nobody received; no user can have this name.
local OPERATOR = 'op:lost'

function finish.lease(id, token) return id .. ' ' .. token end

local function days_after(day, days, now)
  return math.max(start_of(day) + (days + 1) * DAY_MS, now + 2 * DAY_MS)
end

-- A line of the ledger and its totals. spent: {p, t, h, s} tokens (prompt, total, cached, source), cost in nano-USD.
-- What the total has beyond the prompt counts as output, so that the ledger's sum is what the budget was charged.
local function write_ledger(id, head, who, kind, spent, cost, now)
  local keep = redis.call('HMGET', key.RETENTION, 'ledger', 'usage')
  local output = spent.t - spent.p
  local day = head.day or day_of(now)
  redis.call('XADD', key.ledger(day), '*', 'job', id, 'user', who, 'model', head.n, 'pool', head.po or '',
    'in', int(spent.p), 'out', int(output), 'cached', int(spent.h), 'cost', int(cost), 'kind', kind,
    'source', spent.s, 'at', int(now))
  keep_until(key.ledger(day), days_after(day, tonumber(keep[1] or 7), now), now)
  local usage, users = key.usage(who, day), key.usage_users(day)
  redis.call('HINCRBY', usage, 'jobs:' .. head.n, 1)
  redis.call('HINCRBY', usage, 'in:' .. head.n, int(spent.p))
  redis.call('HINCRBY', usage, 'out:' .. head.n, int(output))
  redis.call('HINCRBY', usage, 'cached:' .. head.n, int(spent.h))
  redis.call('HINCRBY', usage, 'cost:' .. head.n, int(cost))
  redis.call('SADD', users, who)
  local until_ms = days_after(day, tonumber(keep[2] or 90), now)
  keep_until(usage, until_ms, now)
  keep_until(users, until_ms, now)
end

-- The estimate as the charge of a job whose provider told nothing.
function finish.estimate(head) return {p = head.pt, c = head.ot, t = head.et, h = 0, s = 'estimated'} end

-- An attempt that may have been charged by the provider, and whose answer nobody has: on the operator's account.
function finish.lost(id, head, now)
  write_ledger(id, head, OPERATOR, 'lost', finish.estimate(head), 0, now)
  figures.lost(head.et)
end

-- Takes a running attempt's lease away; its receipt, its budget and its slot are the caller's. `tokens`: what the attempt
-- is now known to have cost, for the order of turns.
function finish.attempt(id, head, tokens, now)
  redis.call('ZREM', key.LEASES, finish.lease(id, head.lt))
  if head.cx then redis.call('SREM', key.cancels(head.wk), id) end
  lane.correct(head, tokens)
end

-- Ends a job, whatever it was doing: once, since every caller has looked at its state before.
-- with: {charge = usage or nil, cost = nano-USD, result, error (JSON), dead, throttled}
function finish.job(id, head, state, with, now)
  local charge = with.charge
  local tokens = charge and charge.t or 0
  if head.st == 'running' then
    finish.attempt(id, head, tokens, now)
    counts.move(head, 0, -1)
  else
    lane.remove(id, head)
    redis.call('ZREM', key.DUE, id)
    counts.move(head, -1, 0)
  end
  if head.day then
    budget.settle(head.u, head.day, id, tokens)
    if user.anonymous(head.u) then budget.settle(user.EVERYBODY, head.day, id, tokens) end
  end
  if charge then
    write_ledger(id, head, head.u, 'charged', charge, with.cost or 0, now)
    head.us, head.co = charge, with.cost
  end
  head.st, head.fa, head.bk = state, now, nil
  figures.finished(head, charge, with.throttled, now)
  head.as = nil
  redis.call('ZREM', key.EXPIRIES, id)
  local fields = {}
  if with.result then fields[#fields + 1], fields[#fields + 2] = 'r', with.result end
  if with.error then fields[#fields + 1], fields[#fields + 2] = 'e', with.error end
  local keep = redis.call('HMGET', key.RETENTION, 'jobs', 'dead')
  local life = tonumber(keep[1] or DAY_MS)
  if with.dead then
    life = math.max(life, tonumber(keep[2] or 30) * DAY_MS)
    redis.call('ZREMRANGEBYSCORE', key.DEAD, '-inf', int(now - life))
    redis.call('ZADD', key.DEAD, int(now), id)
    keep_until(key.DEAD, now + life, now)
  end
  if head.wu or redis.call('EXISTS', key.subscriptions(head.u)) == 1 then
    local told
    told, life = outbox.write(id, head, life, now)
    if told then fields[#fields + 1], fields[#fields + 2] = 'w', told end
  end
  record.save(id, head, unpack(fields))
  redis.call('PEXPIRE', key.job(id), int(life))
  lane.unpark(head.u)
  if user.anonymous(head.u) then lane.unpark_guests() end
  redis.call('PUBLISH', key.DONE, id)
  wake.push(now, 1)
end

-- Puts a running job back to wait for its next attempt. after: ms; counted: whether the attempt was one; throttled: by the
-- provider.
function finish.put_back(id, head, after, counted, now, throttled)
  finish.attempt(id, head, 0, now)
  figures.attempt(head, throttled, now)
  head.as = nil
  head.st, head.lt, head.wk = 'queued', nil, nil
  if not counted then head.at = head.at - 1 end
  counts.move(head, 1, -1)
  if after > 0 then
    head.bk = true
    redis.call('ZADD', key.DUE, int(now + after), id)
  else
    head.bk = nil
    lane.add(id, head)
  end
  record.save(id, head)
  lane.unpark(head.u)
  wake.push(now, 1)
end

-- Ends a running job that was asked to end (by its user, or because it expired) before its answer came. `cost` in
-- nano-USD, nil where there is no worker to tell it.
function finish.asked(id, head, charge, now, cost)
  local state = head.cx or 'cancelled'
  local error = state == 'expired' and finish.error('expired', 'The job expired while it ran.', head) or nil
  finish.job(id, head, state, {charge = charge, cost = cost, error = error}, now)
end

function finish.error(code, message, head)
  return cjson.encode({code = code, message = message, attempt = head.at > 0 and head.at or nil})
end

-- Asks the worker of a running job to stop it: at once by its channel, and should that be lost with its next renewal.
function finish.request(id, head, state, now)
  if not head.cx then
    head.cx = state
    record.save(id, head)
    redis.call('SADD', key.cancels(head.wk), id)
    redis.call('PEXPIRE', key.cancels(head.wk), int(DAY_MS))
  end
  redis.call('PUBLISH', key.worker(head.wk), id)
end
