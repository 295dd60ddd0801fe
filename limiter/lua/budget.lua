-- budget: a user's tokens of one UTC day; a job has one hold on it until its end.
-- State
--   tokens:<user>:<day>   integer: used + held (at rest exactly what was used)
--   holds:<user>:<day>    hash: job -> tokens held; the field '*' is their sum
-- Both live until 48 h after their day, or after the latest possible end of a job that holds some of it.
-- Expiry only collects garbage: no decision rests on it. limit nil: counted, not checked.
-- @use clock

local budget = {}
local AFTER_MS = 2 * DAY_MS

function budget.key(user, day) return 'tokens:' .. user .. ':' .. day end
function budget.holds_key(user, day) return 'holds:' .. user .. ':' .. day end

-- used + held, held
function budget.view(user, day)
  return number(redis.call('GET', budget.key(user, day))) or 0,
    number(redis.call('HGET', budget.holds_key(user, day), '*')) or 0
end

-- Whether a hold of `estimate` for `job` is there already or fits. Changes nothing.
function budget.fits(user, day, job, estimate, limit)
  if not limit then return true end
  if redis.call('HEXISTS', budget.holds_key(user, day), job) == 1 then return true end
  return (number(redis.call('GET', budget.key(user, day))) or 0) + estimate <= limit
end

-- Holds `estimate` for `job`; a second call changes nothing. Call it only where budget.fits said yes.
-- latest_end: ms at which the job will have ended at the latest.
function budget.hold(user, day, job, estimate, latest_end, now)
  local key, holds = budget.key(user, day), budget.holds_key(user, day)
  if redis.call('HSETNX', holds, job, int(estimate)) == 0 then return end
  local first = redis.call('HINCRBY', holds, '*', int(estimate)) == estimate
  redis.call('INCRBY', key, int(estimate))
  local until_ms = math.max(start_of(day) + DAY_MS, latest_end) + AFTER_MS
  -- The holds live as long as the counter: from their first, and whenever that is lengthened.
  local life = keep_until(key, until_ms, now)
  if life > 0 then
    redis.call('PEXPIRE', holds, int(life))
  elseif first then
    redis.call('PEXPIRE', holds, int(-life))
  end
end

-- The actual tokens in place of the hold, once: after a settle or release this changes nothing, and a day that is
-- gone is not made again. Answers the tokens that had been held, or nil when there was no hold.
function budget.settle(user, day, job, actual)
  local key, holds = budget.key(user, day), budget.holds_key(user, day)
  local held = number(redis.call('HGET', holds, job))
  if not held then return nil end
  redis.call('HDEL', holds, job)
  if redis.call('HINCRBY', holds, '*', int(-held)) == 0 and redis.call('HLEN', holds) == 1 then
    redis.call('DEL', holds)
  end
  if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, int(actual - held)) end
  return held
end
