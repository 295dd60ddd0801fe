-- due: works off what is due by time, a bounded number at once: part of every claim, and called by itself each second
-- by every process, so that nothing waits for a free slot or for the first worker to exist. Any of it may be repeated.
-- State
--   heartbeat   ms at which any worker was last heard;  grace  the heartbeat after which there was a silence
-- @use record
-- @use lane
-- @use wake
-- @rarely finish
-- @rarely waiting
-- @rarely receipt

local due = {}
local MOST = 50
local UNKNOWN_ATTEMPTS, DEAD_WORKERS = 3, 3

-- What a job had been waiting for when it expired.
local REASONS = {
  not_before = 'its not_before', user_budget = "its user's budget", provider_tokens = "the provider's tokens per minute",
  provider_requests = "the provider's requests per minute", provider_paused = 'a paused provider',
  concurrency = 'a free slot', backoff = 'its next attempt',
}

local function expire(id, head, now)
  if head.st == 'running' then
    finish.request(id, head, 'expired', now)
    redis.call('ZADD', key.EXPIRIES, int(now + 1000), id)
    return
  end
  local reason = waiting.of(id, head, now)[1]
  local message = 'The job expired while it waited for ' .. (REASONS[reason] or 'its turn') .. '.'
  finish.job(id, head, 'expired', {error = finish.error('expired', message, head)}, now)
end

-- A worker went silent with this job: its attempt has an unknown outcome, and its receipt stays until its deadline.
local function recover(id, head, now)
  head.dw, head.un, head.as = (head.dw or 0) + 1, (head.un or 0) + 1, nil
  if head.cx then
    return finish.asked(id, head, finish.estimate(head), now)
  end
  if head.rt == 'never' then
    local message = 'The worker died while the job ran, and retry is "never".'
    return finish.job(id, head, 'failed',
      {charge = finish.estimate(head), error = finish.error('outcome_unknown', message, head)}, now)
  end
  finish.lost(id, head, now)
  if head.dw >= DEAD_WORKERS then
    local message = string.format('%d workers died while they ran this job.', head.dw)
    return finish.job(id, head, 'failed', {dead = true, error = finish.error('worker_lost', message, head)}, now)
  end
  if head.un >= UNKNOWN_ATTEMPTS then
    local message = 'The outcome of every attempt is unknown.'
    return finish.job(id, head, 'failed', {dead = true, error = finish.error('provider_failed', message, head)}, now)
  end
  finish.put_back(id, head, 0, true, now)
end

-- An outage of Redis is not the death of its workers: when nobody was heard for half a lease, though each renews every third
-- of one, that time counts for no lease. Whoever lives has left what was left before, two thirds of a lease, to be heard and
-- to settle answers already paid for; who is dead is found that much later, and no more: a silence is told once.
local function silent(now, lease_ms)
  local heard = redis.call('GET', key.HEARTBEAT)
  local passed = heard and now - tonumber(heard) or 0
  if passed <= lease_ms / 2 or redis.call('GET', key.GRACE) == heard then return false end
  redis.call('SET', key.GRACE, heard)
  for _, leases in ipairs({key.LEASES, key.DELIVERY_LEASES}) do
    for _, lease in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
      redis.call('ZINCRBY', leases, int(passed), lease)
    end
  end
  return true
end

-- A worker is heard. The first one after a silence must not hide it from the leases of the others.
function due.heard(now, lease_ms)
  silent(now, lease_ms)
  redis.call('SET', key.HEARTBEAT, int(now))
end

local function leases(now, lease_ms)
  local ended = redis.call('ZRANGEBYSCORE', key.LEASES, '-inf', int(now), 'LIMIT', 0, MOST)
  if #ended == 0 or silent(now, lease_ms) then return end
  for _, lease in ipairs(ended) do
    local id, token = string.match(lease, '^(%S+) (.+)$')
    local head = record.load(id)
    if head and head.st == 'running' and head.lt == token then
      recover(id, head, now)
    else
      redis.call('ZREM', key.LEASES, lease)
    end
  end
end

function due.work_off(now, lease_ms)
  local moved = redis.call('ZRANGEBYSCORE', key.DUE, '-inf', int(now), 'LIMIT', 0, MOST)
  for _, id in ipairs(moved) do
    redis.call('ZREM', key.DUE, id)
    local head = record.load(id)
    if head and head.st == 'queued' then
      if head.bk then
        head.bk = nil
        record.save(id, head)
      end
      lane.add(id, head)
    end
  end
  if #moved > 0 then wake.push(now, #moved) end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.EXPIRIES, '-inf', int(now), 'LIMIT', 0, MOST)) do
    local head = record.load(id)
    if head and not record.final(head) then
      expire(id, head, now)
    else
      redis.call('ZREM', key.EXPIRIES, id)
    end
  end
  for _, who in ipairs(redis.call('ZRANGEBYSCORE', key.MIDNIGHT, '-inf', int(now), 'LIMIT', 0, MOST)) do
    redis.call('ZREM', key.MIDNIGHT, who)
    if lane.unpark(who) then wake.push(now, 1) end
  end
  leases(now, lease_ms)
  outbox.work_off(now, function() return silent(now, lease_ms) end)
  if receipt.sweep(now, MOST) > 0 then wake.push(now, 1) end
end
