-- receiver: how many deliveries are under way to one lane, and whether it has failed too often: its breaker.
-- State
--   receiver:<lane>   hash: sending (deliveries under way), failures (in a row), level (0 or absent: closed; how often it has
--                     failed since it opened), until (ms at which one delivery is tried), probe (the lease token of that one)
-- @use clock
-- @use keys

local receiver = {}
local AT_ONCE, FAILURES = 4, 5
local FIRST_PROBE_MS, LAST_PROBE_MS = 30000, 1800000
-- Longer than any delivery waits.
local KEPT_MS = 6 * DAY_MS

local function interval(level) return math.min(LAST_PROBE_MS, FIRST_PROBE_MS * 2 ^ (level - 1)) end

-- When a delivery that is due at `due` may be sent; nil: not before one under way has come back.
function receiver.free_at(lane, due)
  local v = redis.call('HMGET', key.receiver(lane), 'sending', 'level', 'until')
  if (number(v[1]) or 0) >= AT_ONCE then return nil end
  if (number(v[2]) or 0) > 0 then return math.max(due, tonumber(v[3])) end
  return due
end

-- A delivery goes out. With the breaker open it is the one that is tried, and the others wait on.
function receiver.took(lane, token, now)
  local k = key.receiver(lane)
  redis.call('HINCRBY', k, 'sending', 1)
  local level = number(redis.call('HGET', k, 'level')) or 0
  if level > 0 then redis.call('HSET', k, 'until', int(now + interval(level)), 'probe', token) end
  redis.call('PEXPIRE', k, KEPT_MS)
end

function receiver.returned(lane)
  local k = key.receiver(lane)
  if redis.call('HINCRBY', k, 'sending', -1) <= 0 then redis.call('HDEL', k, 'sending') end
end

function receiver.worked(lane) redis.call('HDEL', key.receiver(lane), 'failures', 'level', 'until', 'probe') end

-- What was sent before the breaker opened may fail with it, and says nothing new.
function receiver.failed(lane, token, now)
  local k = key.receiver(lane)
  local v = redis.call('HMGET', k, 'level', 'probe')
  local level = number(v[1]) or 0
  if level > 0 then
    if v[2] ~= token then return end
    level = level + 1
  elseif redis.call('HINCRBY', k, 'failures', 1) >= FAILURES then
    level = 1
  end
  if level > 0 then redis.call('HSET', k, 'level', int(level), 'until', int(now + interval(level))) end
  redis.call('PEXPIRE', k, KEPT_MS)
end

-- The next delivery is tried at once, whatever there was.
function receiver.retry(lane, now)
  local k = key.receiver(lane)
  if (number(redis.call('HGET', k, 'level')) or 0) > 0 then redis.call('HSET', k, 'until', int(now)) end
end
