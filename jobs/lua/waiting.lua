-- waiting: why a queued job does not run, how many will start before it, and when it may.
-- State: none. Nothing is counted one by one, no other waiting job is looked at.
-- @use lane
-- @use budget
-- @rarely pool
-- @rarely overtaking

local waiting = {}

-- What refuses a job of the head's size in every pool of its name, and until when (ms, nil: nobody knows); nil if one
-- would take it.
local function refused(id, head, now)
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
      if not why then return nil end
      if not reason then reason, at = why, wait and now + wait or nil end
    end
  end
  return reason, at
end

-- Why a queued job is not running, and when it may: reason or nil, ms (Unix) or nil.
local function blocked(id, head, now)
  if head.bk or (head.nb and head.nb > now) then
    local due = number(redis.call('ZSCORE', key.DUE, id))
    if due then return head.bk and 'backoff' or 'not_before', due end
  end
  local parked = lane.parked(head.n, head.u)
  if parked then return parked end
  local limits = user.limits(head.u)
  if head.w and not head.day and not budget.fits(head.u, day_of(now), id, head.et, limits.tokens_per_day) then
    return 'user_budget'
  end
  local reason, at = refused(id, head, now)
  if reason then return reason, at end
  if redis.call('ZCOUNT', key.ASLEEP, int(now), '+inf') == 0 then return 'concurrency' end
  return nil, now
end

-- How many jobs will start before this one: its own lane's, and the others' by their weights; nil if it has no turn yet.
local function position(id, head)
  local own, length = lane.place(id, head)
  if not own then return nil end
  local others = math.max(0, (number(redis.call('HGET', key.backlog(head.n), 'jobs')) or 0) - length)
  if own == 0 or others == 0 then return own end
  local weight = user.limits(head.u).weight
  local sum = math.max(weight, number(redis.call('HGET', key.WEIGHT, head.n)) or weight)
  return own + math.min(others, math.floor(own * (sum - weight) / weight))
end

-- When a job that waits behind others may start: the tokens ahead of it at the rate of its first pool's windows.
local function estimated_start(head, ahead, at, now)
  if not at or not ahead then return nil end
  if ahead == 0 then return at end
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
  return at + math.floor(ahead * each * 60000 / per_minute)
end

-- What a poll adds to the record of a queued job: {reason, position, start}, false for what there is not.
function waiting.of(id, head, now)
  local reason, at = blocked(id, head, now)
  local ahead = position(id, head)
  local start = estimated_start(head, ahead, at, now)
  if reason == 'not_before' or reason == 'backoff' then start = at end
  return {reason or false, ahead or false, start and math.floor(start) or false}
end
