-- rate: at most N requests of a user in any W ms; whoever exceeds it is blocked for B ms. And N a UTC day.
-- State
--   rate:<user>             list of the times (ms) of the counted requests of the last W ms, newest first, at most N
--   rate:<user>:block       the time (ms) until which the user is blocked
--   requests:<user>:<day>   how many requests were counted on that day
-- An exact list: a fixed minute lets 2N through around its edge, a bucket of N nearly 2N in its first window.
-- A changed layout needs new key names: two versions may run at once.
-- @use clock

local rate = {}

function rate.key(user) return 'rate:' .. user end
function rate.block_key(user) return 'rate:' .. user .. ':block' end
function rate.day_key(user, day) return 'requests:' .. user .. ':' .. day end

local function block_user(user, until_ms, now)
  redis.call('SET', rate.block_key(user), int(until_ms), 'PX', int(until_ms - now))
end

-- The ms until which the user is blocked, 0 if he is not, and what is stored of it. After the clock was set back, or the
-- block was shortened, it lasts no longer than from now on, but until all that was counted before it has left.
local function blocked_until(user, limits, now)
  local stored = number(redis.call('GET', rate.block_key(user))) or 0
  if stored <= now then return 0, stored end
  return math.min(stored, now + math.max(limits.block, limits.window)), stored
end

-- After the clock was set back: what was counted later than now counts as of now.
local function count_as_of(key, now, window)
  local later = 0
  local newest = redis.call('LINDEX', key, 0)
  while newest and tonumber(newest) > now do
    redis.call('LPOP', key)
    later = later + 1
    newest = redis.call('LINDEX', key, 0)
  end
  for _ = 1, later do redis.call('LPUSH', key, int(now)) end
  if later > 0 then redis.call('PEXPIRE', key, int(window)) end
end

-- How many of these requests were sent at `start` or before: of a sorted list the last few, so that the search goes
-- from its end in steps that double, and then halve.
local function gone_by(start, key, count)
  local gone, step = 0, 1
  local function left(places)
    return places <= count and tonumber(redis.call('LINDEX', key, int(-places))) <= start
  end
  while left(gone + step) do
    gone, step = gone + step, step * 2
  end
  while step > 1 do
    step = step / 2
    if left(gone + step) then gone = gone + step end
  end
  return gone
end

-- limits: {limit, window, block, per_day}, each in requests or ms, nil for unlimited.
-- Answers the state without counting anything, and changes nothing: whoever polls can be told on a read-only server.
-- {limit, remaining, reset = ms until all are free again, blocked = ms until which}, and for rate.hit what is stored of
-- the block, and how many requests have gone.
function rate.view(user, limits, now)
  local blocked, stored = blocked_until(user, limits, now)
  local view = {limit = limits.limit, remaining = nil, reset = 0, blocked = blocked, stored = stored, gone = 0}
  if limits.limit then
    local key = rate.key(user)
    local count = redis.call('LLEN', key)
    view.gone = gone_by(now - limits.window, key, count)
    view.remaining = math.max(0, limits.limit - (count - view.gone))
    if count > view.gone then
      view.reset = math.min(tonumber(redis.call('LINDEX', key, 0)) - now, 0) + limits.window
    end
  end
  if view.blocked > 0 then
    view.remaining = 0
    view.reset = math.max(view.reset, view.blocked - now)
  end
  return view
end

-- Makes what is stored what the view has told.
local function keep_state(user, limits, now, view)
  if view.blocked == 0 and view.stored > 0 then redis.call('DEL', rate.block_key(user)) end
  if view.blocked ~= 0 and view.blocked < view.stored then block_user(user, view.blocked, now) end
  if limits.limit then
    local key = rate.key(user)
    if view.gone > 0 then redis.call('LTRIM', key, 0, int(-view.gone - 1)) end
    count_as_of(key, now, limits.window)
  end
end

-- Counts one request, or refuses it: allowed, wait in ms, view. A refusal while blocked never lengthens the block.
-- The wait is until both limits have room.
function rate.hit(user, limits, now)
  local view = rate.view(user, limits, now)
  keep_state(user, limits, now, view)
  local day_key, day_wait = limits.per_day and rate.day_key(user, day_of(now)), 0
  if day_key and (number(redis.call('GET', day_key)) or 0) >= limits.per_day then
    day_wait = midnight_after(now) - now
  end
  if view.blocked > 0 then return false, math.max(day_wait, view.blocked - now), view end
  if limits.limit and view.remaining == 0 then
    -- The Nth newest request is within the window: N + 1 would be in it with this one.
    local room = tonumber(redis.call('LINDEX', rate.key(user), limits.limit - 1)) + limits.window
    if limits.block > 0 then
      -- A block that is shorter than the window lasts until there is room again: N in any window, block or not.
      view.blocked = math.max(now + limits.block, room)
      view.reset = math.max(view.reset, view.blocked - now)
      block_user(user, view.blocked, now)
      return false, math.max(day_wait, view.blocked - now), view
    end
    return false, math.max(day_wait, room - now), view
  end
  if day_wait > 0 then return false, day_wait, view end
  if limits.limit then
    local key = rate.key(user)
    redis.call('LPUSH', key, int(now))
    redis.call('PEXPIRE', key, int(limits.window))
    view.remaining = view.remaining - 1
    view.reset = limits.window
  end
  if day_key then
    redis.call('INCR', day_key)
    keep_until(day_key, midnight_after(now) + DAY_MS, now)
  end
  return true, 0, view
end
