-- waiting: why a queued job does not run, how many will start before it, and when it may.
-- State: none. Nothing is counted one by one; of the other jobs only the first of the lane is looked at.
-- @use lane
-- @use counts
-- @use budget
-- @rarely pace
-- @rarely progress
-- @rarely pool
-- @rarely foresight
-- @rarely kept

local waiting = {}

-- What refuses a job of the head's size in every pool of its name, and until when (ms, nil: nobody knows); nil if one
-- would take it. Besides, the tokens of a job that a window is kept for.
local function refused(id, head, now)
  local reason, at, first = nil, nil, 0
  for _, name in ipairs(pool.of(head.n) or {}) do
    local settings = pool.settings(name)
    if settings then
      local paused = pool.paused(name, now)
      local why, wait = 'provider_paused', paused
      if paused == 0 then
        why, wait = window.refusal(settings.spec, now, learned.expected(settings.spec, head.u, head.pt, head.ot))
        local big = not why and kept.from(settings.spec, now, id, head)
        if big then why, wait, first = 'provider_tokens', nil, big.et end
      end
      if not why then return nil, nil, 0 end
      if not reason then reason, at = why, wait and now + wait or nil end
    end
  end
  return reason, at, first
end

-- Why a queued job is not running, and when it may: reason or nil, ms (Unix) or nil; the tokens that go first in any case.
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
  local reason, at, first = refused(id, head, now)
  if reason then return reason, at, first end
  if redis.call('ZCOUNT', key.ASLEEP, int(now), '+inf') == 0 then return 'concurrency' end
  return nil, now
end

-- The tokens that wait before a job in its lane: the difference of what had been submitted to its class until this one
-- and until the first of it; with several classes, by the jobs' usual size.
local function own_tokens(head, jobs, heads)
  if jobs == 0 then return 0 end
  local q = counts.of(head.u)
  if #heads == 1 and head.ct then
    local stored = redis.call('HGET', key.job(heads[1][2]), 'h')
    local first = stored and cjson.decode(stored) or head
    local between = first.ct and (head.ct - head.et) - (first.ct - first.et) or -1
    if between >= 0 then return math.min(between, q.tokens) end
  end
  return jobs * q.tokens / math.max(1, q.jobs)
end

-- What a pool's calls use of what they hold, and how long it takes until so many tokens of its whole limit have come
-- round: what is charged when the call ends holds its estimate while it runs, and only its usage for the minute after it.
local function round_of(spec)
  local minute, call = spec.span + 750, pace.call(spec.pool)
  local used = call[1] > 0 and call[5] > 0 and (call[3] + call[4]) / call[5] or 1
  if spec.accounting == 'openai' or call[1] == 0 then return minute, used end
  return minute * math.min(1, used) + call[2], used
end

-- The windows that limit a name's pools: {{w, round ms, rate in tokens a ms}, ...}, of each pool its slowest, none where
-- nothing limits them; the sum of their rates; and what calls use of what they hold.
local function limits_of(head, now)
  local limits, sum, of_all = {}, 0, 0
  for _, name in ipairs(pool.of(head.n) or {}) do
    local settings = pool.settings(name)
    local spec, slowest = settings and settings.spec, nil
    if spec and pool.paused(name, now) == 0 then
      local round, used = round_of(spec)
      for _, scope in ipairs(spec.scopes) do
        if scope.tokens then
          local w = window.open(spec, scope, now)
          if not slowest or w.limit / round < slowest.rate then slowest = {w = w, round = round, rate = w.limit / round} end
        end
      end
      if not slowest then return {}, 0, used end
      limits[#limits + 1] = slowest
      sum, of_all = sum + slowest.rate, of_all + slowest.rate * used
    end
  end
  return limits, sum, sum > 0 and of_all / sum or 1
end

local function provider_of(name) return string.match((pool.of(name) or {})[1] or '', '^[^/]*') end

-- The weight that waits in a job's name, and its share of what the windows let through: names that share a provider take
-- turns by the weights that wait in them.
local function weight_of(head)
  local weights = redis.call('HGETALL', key.WEIGHT)
  local mine, others, provider = 0, 0, provider_of(head.n)
  for i = 1, #weights, 2 do
    if weights[i] == head.n then
      mine = tonumber(weights[i + 1])
    elseif provider_of(weights[i]) == provider then
      others = others + weights[i + 1]
    end
  end
  return mine, mine > 0 and mine / (mine + others) or 1
end

-- By how much virtual time has to move until it reaches a job's turn (tokens by weight), and the weight of the other lanes.
-- of_name: the weight that waits in its name.
local function turns_before(head, own, of_name)
  local weight = user.limits(head.u).weight
  local sum = math.max(weight, of_name)
  local tag = number(redis.call('ZSCORE', key.ready('lanes:' .. head.n), head.u))
  local late = tag and math.max(0, tag - fair.virtual('lanes:' .. head.n)) / 1000 or 0
  return own / weight + late, sum - weight
end

-- The tokens of others that have their turn before the job, while so much virtual time passes. At the most, all move by
-- their weights; but lanes have jobs for a part of the time, and lanes come and go: how fast virtual time moved in the last
-- minutes tells what that comes to. It moves by what calls have used in the end. rate: tokens a ms that the name gets.
local function of_others(head, own, turns, weights, rate, used)
  local by_weights, speed = turns * weights, progress.speed(head.n)
  if speed == 0 then return by_weights end
  return math.max(0, math.min(by_weights, rate * turns * used / speed - own))
end

-- What a list adds to the record of a queued job: as waiting.of, but without its place, which costs ten times as much.
function waiting.why(id, head, now)
  local reason, at, first = blocked(id, head, now)
  local due = reason == 'not_before' or reason == 'backoff'
  return {reason or false, false, due and math.floor(at)}, at, due, first
end

-- What a poll adds to the record of a queued job: {reason, position, start}, false for what there is not.
function waiting.of(id, head, now)
  local why, at, due, first = waiting.why(id, head, now)
  if due then return why end
  local reason = why[1]
  local jobs, length, heads = lane.place(id, head)
  if not jobs then return why end
  local own = own_tokens(head, jobs, heads)
  local of_name, share = weight_of(head)
  local turns, weights = turns_before(head, own, of_name)
  first = first or 0
  if jobs + turns + first == 0 then return {reason, 0, at and math.floor(at) or false} end
  local limits, rate, used = limits_of(head, now)
  local others = of_others(head, own, turns, weights, rate * share, used)
  local start = at
  -- A job that a window is kept for goes first, though it may be one of others.
  local before = math.max(own + others, first)
  if reason ~= 'concurrency' and reason ~= 'user_budget' and before > 0 then
    local ms = rate > 0 and foresight.until_taken(limits, before / share + head.et)
    start = ms and math.max(at or now, now + ms)
  end
  local backlog = redis.call('HMGET', key.backlog(head.n), 'jobs', 'tokens')
  local waiting, tokens = number(backlog[1]) or 0, number(backlog[2]) or 0
  local turns_of_others = math.min(waiting - length, math.floor(others * waiting / math.max(1, tokens) + 0.001))
  return {reason, jobs + math.max(0, turns_of_others), start and math.floor(start) or false}
end
