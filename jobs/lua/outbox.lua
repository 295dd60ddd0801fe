-- outbox: what is to be told of the ends of jobs, to whom, and how that stands. Written by the very step that ends a job.
-- A lane is what has one receiver: a registered endpoint (its id), or a user's own URLs of one origin.
-- State
--   delivery:<id>           hash: h  the head, JSON (fields below);  b  the body (opaque), from the first attempt on
--                                 a<n>  what came of the nth attempt (opaque JSON), of the last ones
--   deliveries:<user>       zset of his deliveries' ids, all scores 0: in the order of their jobs
--   outbox:waiting:<lane>   zset: delivery -> ms from which it may be sent
--   outbox:failed:<lane>    zset: delivery that failed for good -> ms at which it was made
--   outbox:lanes            zset: lane with something to send -> ms at which it is looked at
--   outbox:leases           zset: '<delivery> <token>' -> ms at which the lease ends
--   outbox:ends             zset: pending delivery -> ms at which its schedule ends
--   outbox:sending          hash: user -> deliveries under way
--   job:<id>                field w of the record, JSON: d {number of a delivery: {s status (p, d, f), a attempts, n next (ms)}},
--                           c last status code, u until when the record is kept without this (ms), v version
-- The head of a delivery (absent: not set; times in ms)
--   u user, j job (absent: a test), t type, ev event id, l lane, ep endpoint or url, c made, x end of its schedule
--   st status (pending, delivered, failed), k attempts in all, n those of them that count in its schedule, due next attempt
--   lt lease token, wk worker (while under way), lo token of the last lease, co last status code, why it failed without one
--   ow failures of our own in a row, once (a test, which is tried once)
-- @use clock
-- @use keys
-- @use members
-- @use wake
-- @use endpoints
-- @use receiver
-- @use figures

local outbox = {}
local MOST_A_USER, MOST_KEPT, MOST_AT_ONCE = 80, 20, 50
local SCHEDULE_MS, FAILED_KEPT_MS, LEAST_KEPT_MS = 4 * DAY_MS, 30 * DAY_MS, 3600000
-- Behind the end of its schedule, so that what came of the last attempt is not lost.
local KEPT_AFTER_MS = DAY_MS
-- Before the second attempt, the third, and so on.
local WAITS_S = {5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400}
local OUR_FIRST_MS, OUR_LAST_MS = 5000, 300000

function outbox.load(id)
  local stored = redis.call('HGET', key.delivery(id), 'h')
  return stored and cjson.decode(stored) or nil
end

local function save(id, head, ...) redis.call('HSET', key.delivery(id), 'h', cjson.encode(head), ...) end

-- Notes on the job how a delivery of it stands. Its record stays for as long as something of it may be sent.
local function tell_job(id, head, now)
  local k = head.j and key.job(head.j)
  local stored = k and redis.call('HGET', k, 'w')
  if not stored then return end
  local w = cjson.decode(stored)
  local number_of_it = string.match(id, '_(%d+)$')
  w.d[number_of_it] = {s = string.sub(head.st, 1, 1), a = head.k, n = head.st == 'pending' and head.due or nil}
  w.c, w.v = head.co, w.v + 1
  redis.call('HSET', k, 'w', cjson.encode(w))
  local pending, failed = false, false
  for _, one in pairs(w.d) do
    pending, failed = pending or one.s == 'p', failed or one.s == 'f'
  end
  local kept = math.max(w.u, now + LEAST_KEPT_MS)
  if failed then kept = math.max(kept, now + FAILED_KEPT_MS) end
  if pending then kept = math.max(kept, head.x + KEPT_AFTER_MS) end
  redis.call('PEXPIRE', k, int(kept - now))
  keep_until(key.jobs_of(head.u), kept, now)
end

-- Puts a lane where it belongs among those that wait to be looked at: behind those that may go already, so that they take
-- turns. turn: how many lanes have had theirs in this very millisecond (below 1000).
function outbox.refresh(lane, now, turn)
  local first = redis.call('ZRANGE', key.waiting(lane), 0, 0, 'WITHSCORES')
  local at = first[1] and not endpoints.disabled(lane) and receiver.free_at(lane, tonumber(first[2]))
  if not at then
    redis.call('ZREM', key.OUTBOX, lane)
    return
  end
  redis.call('ZADD', key.OUTBOX, string.format('%.3f', math.max(at, now) + (turn or 0) / 1000), lane)
  if at <= now then wake.push(now, 1, wake.SENDERS) end
end

local function wait(id, head, now)
  redis.call('ZADD', key.waiting(head.l), int(head.once and 0 or head.due), id)
  local known = number(redis.call('ZSCORE', key.OUTBOX, head.l))
  if not known or known > now then outbox.refresh(head.l, now) end
end

-- Puts a new delivery into its lane.
function outbox.add(id, head, now, ...)
  head.c, head.x, head.st, head.k, head.n, head.due = now, now + SCHEDULE_MS, 'pending', 0, 0, now
  save(id, head, ...)
  redis.call('PEXPIRE', key.delivery(id), int(SCHEDULE_MS + KEPT_AFTER_MS))
  redis.call('ZADD', key.DELIVERY_ENDS, int(head.x), id)
  local index = key.deliveries_of(head.u)
  members.tidy(index, key.delivery, now)
  redis.call('ZADD', index, 0, id)
  keep_until(index, head.x + KEPT_AFTER_MS + FAILED_KEPT_MS, now)
  wait(id, head, now)
end

-- A job has ended: what is to be told goes into the outbox. life: ms for which its record is kept without that.
-- Answers the field `w` of the record and for how long it is kept now, or nil where nobody is to be told.
function outbox.write(id, job, life, now)
  local kind, lanes = 'job.' .. job.st, {job.wl}
  if not job.wu then lanes = endpoints.wanting(job.u, kind) end
  if #lanes == 0 then return nil, life end
  local ulid = string.sub(id, 5)
  local w = {d = {}, u = now + life, v = 1}
  for i, lane in ipairs(lanes) do
    local place = int(i - 1)
    local head = {u = job.u, j = id, t = kind, ev = 'evt_' .. ulid, l = lane, url = job.wu, ep = not job.wu and lane or nil}
    outbox.add('dlv_' .. ulid .. '_' .. place, head, now)
    w.d[place] = {s = 'p', a = 0, n = now}
  end
  local kept = math.max(life, SCHEDULE_MS + KEPT_AFTER_MS)
  keep_until(key.jobs_of(job.u), now + kept, now)
  return cjson.encode(w), kept
end

-- Takes a delivery that is under way back from its worker.
local function release(id, head)
  redis.call('ZREM', key.DELIVERY_LEASES, id .. ' ' .. head.lt)
  if redis.call('HINCRBY', key.SENDING, head.u, -1) <= 0 then redis.call('HDEL', key.SENDING, head.u) end
  receiver.returned(head.l)
  head.lo, head.lt, head.wk = head.lt, nil, nil
end

-- A delivery has come to its end: 'delivered' or 'failed'. why: set if it failed without an attempt that could say so.
local function conclude(id, head, status, why, now)
  head.st, head.due, head.why = status, nil, why
  figures.delivery(status)
  redis.call('ZREM', key.waiting(head.l), id)
  redis.call('ZREM', key.DELIVERY_ENDS, id)
  local kept = FAILED_KEPT_MS
  if status == 'failed' then
    if head.ep then
      redis.call('ZREMRANGEBYSCORE', key.failed(head.l), '-inf', int(now - FAILED_KEPT_MS - 2 * SCHEDULE_MS))
      redis.call('ZADD', key.failed(head.l), int(head.c), id)
      keep_until(key.failed(head.l), now + FAILED_KEPT_MS, now)
    end
  else
    local stored = head.j and redis.call('HGET', key.job(head.j), 'w')
    kept = math.max(LEAST_KEPT_MS, stored and cjson.decode(stored).u - now or 0)
  end
  save(id, head)
  redis.call('PEXPIRE', key.delivery(id), int(kept))
  keep_until(key.deliveries_of(head.u), now + kept, now)
  tell_job(id, head, now)
end

local function take(id, head, worker, token, lease_ms, now)
  redis.call('ZREM', key.waiting(head.l), id)
  redis.call('ZADD', key.DELIVERY_LEASES, int(now + lease_ms), id .. ' ' .. token)
  redis.call('HINCRBY', key.SENDING, head.u, 1)
  receiver.took(head.l, token, now)
  head.lt, head.wk = token, worker
  save(id, head)
end

-- A delivery as its worker gets it: {id, token, head, body, url, secret, old secret}, and the job's {h, i, r, e} where the
-- body is yet to be made.
function outbox.row(id, head, now)
  local stored = redis.call('HMGET', key.delivery(id), 'h', 'b')
  local url = head.url or redis.call('HGET', key.endpoint(head.ep), 'url') or ''
  local secret, old = endpoints.secrets(head.ep and key.endpoint(head.ep) or key.signing(head.u), now)
  local row = {id, head.lt, stored[1], stored[2] or '', url, secret, old}
  if not stored[2] and head.j then
    for _, part in ipairs(redis.call('HMGET', key.job(head.j), 'h', 'i', 'r', 'e')) do row[#row + 1] = part or '' end
  end
  return row
end

-- Looks at a lane whose turn it is: answers the delivery taken and its head, or nil.
function outbox.look(lane, worker, token, lease_ms, now, turn)
  local first = redis.call('ZRANGE', key.waiting(lane), 0, 0, 'WITHSCORES')
  local id = first[1]
  local head = id and outbox.load(id)
  local at = head and receiver.free_at(lane, tonumber(first[2]))
  if id and not head then
    redis.call('ZREM', key.waiting(lane), id)
  elseif head and head.ep and redis.call('EXISTS', key.endpoint(head.ep)) == 0 then
    conclude(id, head, 'failed', 'the endpoint was deleted', now)
  elseif head and head.j and redis.call('HEXISTS', key.delivery(id), 'b') == 0
    and redis.call('EXISTS', key.job(head.j)) == 0 then
    conclude(id, head, 'failed', "the job's record is gone", now)
  elseif at and at <= now and not endpoints.disabled(lane) then
    if (number(redis.call('HGET', key.SENDING, head.u)) or 0) >= MOST_A_USER then
      redis.call('ZADD', key.OUTBOX, int(now + 1000), lane)
      return nil
    end
    take(id, head, worker, token, lease_ms, now)
    outbox.refresh(lane, now, turn)
    return id, head
  end
  outbox.refresh(lane, now, turn)
  return nil
end

local function log(id, head, attempt)
  head.k = head.k + 1
  redis.call('HSET', key.delivery(id), 'a' .. int(head.k), attempt)
  redis.call('HDEL', key.delivery(id), 'a' .. int(head.k - MOST_KEPT))
end

-- Lets a delivery wait for its next attempt, unless its schedule ends before.
local function again(id, head, after, now)
  head.due = math.floor(now + after)
  if head.due >= head.x then return conclude(id, head, 'failed', nil, now) end
  figures.delivery('retried')
  save(id, head)
  tell_job(id, head, now)
  wait(id, head, now)
end

-- How long to wait for our own name server, proxy or worker: they cost the receiver nothing.
local function our_wait(head)
  head.ow = (head.ow or 0) + 1
  return math.min(OUR_LAST_MS, OUR_FIRST_MS * 2 ^ (head.ow - 1))
end

-- What an attempt came to. how: 'delivered', 'failed', 'gone' (410), 'ours' (our own fault); attempt: for its log;
-- retry_after: ms or nil; spread: what the wait is multiplied by.
function outbox.settle(id, head, how, code, attempt, retry_after, spread, now)
  local token, lane = head.lt, head.l
  release(id, head)
  log(id, head, attempt)
  head.co = code
  if how == 'ours' then
    again(id, head, our_wait(head) * spread, now)
  elseif how == 'delivered' then
    receiver.worked(lane)
    head.n, head.ow = head.n + 1, nil
    conclude(id, head, 'delivered', nil, now)
  else
    receiver.failed(lane, token, now)
    head.n, head.ow = head.n + 1, nil
    if how == 'gone' and head.ep then endpoints.disable(head.ep, 'its receiver answered 410 (gone)', now) end
    local seconds = WAITS_S[head.n]
    if head.once or not seconds then
      conclude(id, head, 'failed', nil, now)
    else
      again(id, head, math.max(seconds * 1000 * spread, retry_after or 0), now)
    end
  end
  outbox.refresh(lane, now)
end

-- Sends a delivery that waits at once, whatever its receiver's breaker says.
function outbox.hurry(id, head, now)
  head.due = now
  save(id, head)
  tell_job(id, head, now)
  receiver.retry(head.l, now)
  redis.call('ZADD', key.waiting(head.l), 0, id)
  outbox.refresh(head.l, now)
end

-- Sends a delivery that has ended once more, by a whole new schedule.
function outbox.redeliver(id, head, now)
  redis.call('ZREM', key.failed(head.l), id)
  head.st, head.n, head.ow, head.why, head.due, head.x = 'pending', 0, nil, nil, now, now + SCHEDULE_MS
  save(id, head)
  keep_until(key.delivery(id), head.x + KEPT_AFTER_MS, now)
  keep_until(key.deliveries_of(head.u), head.x + KEPT_AFTER_MS + FAILED_KEPT_MS, now)
  redis.call('ZADD', key.DELIVERY_ENDS, int(head.x), id)
  tell_job(id, head, now)
  wait(id, head, now)
end

-- A job is erased, and with it what its deliveries say: also those that were not sent yet.
function outbox.erase(job, head, now)
  local stored = redis.call('HGET', key.job(job), 'w')
  if not stored then return end
  for place in pairs(cjson.decode(stored).d) do
    local id = 'dlv_' .. string.sub(job, 5) .. '_' .. place
    local one = outbox.load(id)
    if one then
      if one.lt then release(id, one) end
      redis.call('ZREM', key.waiting(one.l), id)
      redis.call('ZREM', key.failed(one.l), id)
      redis.call('ZREM', key.DELIVERY_ENDS, id)
      redis.call('ZREM', key.deliveries_of(head.u), id)
      redis.call('DEL', key.delivery(id))
      outbox.refresh(one.l, now)
    end
  end
end

-- Works off leases that have ended, unless there is a reason to wait, and schedules that have.
function outbox.work_off(now, silent)
  local ended = redis.call('ZRANGEBYSCORE', key.DELIVERY_LEASES, '-inf', int(now), 'LIMIT', 0, MOST_AT_ONCE)
  if #ended > 0 and not silent() then
    for _, lease in ipairs(ended) do
      local id, token = string.match(lease, '^(%S+) (.+)$')
      local head = outbox.load(id)
      if head and head.lt == token then
        local at = cjson.encode({at = now, error = 'the worker that sent it was lost', ours = true})
        release(id, head)
        log(id, head, at)
        -- At once the first time, since it was hardly its fault; but one that takes its worker with it must not take all.
        local after = head.ow and our_wait(head) or 0
        head.ow = head.ow or 1
        again(id, head, after, now)
        outbox.refresh(head.l, now)
      else
        redis.call('ZREM', key.DELIVERY_LEASES, lease)
      end
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.DELIVERY_ENDS, '-inf', int(now), 'LIMIT', 0, MOST_AT_ONCE)) do
    local head = outbox.load(id)
    if not head then
      redis.call('ZREM', key.DELIVERY_ENDS, id)
    elseif head.lt then
      redis.call('ZADD', key.DELIVERY_ENDS, int(now + 60000), id)
    else
      conclude(id, head, 'failed', 'its schedule ended while its receiver was not tried', now)
      outbox.refresh(head.l, now)
    end
  end
end
