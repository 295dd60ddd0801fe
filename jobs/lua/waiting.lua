-- waiting: why a queued job does not run, how many will start before it, and when it may.
-- State: none. Nothing is counted one by one; of the other jobs only the first of the lane is looked at.
-- @use lane
-- @use counts
-- @use budget
-- @rarely pace
-- @rarely pool
-- @rarely kept

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
        if not why and kept.from(settings.spec, now, id, head) then why, wait = 'provider_tokens', nil end
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

-- The tokens that wait before a job in its lane: the difference of what had been submitted to its class until this one
-- and until the first of it; with several classes, by the jobs' usual size.
local function own_tokens(head, jobs)
  if jobs == 0 then return 0 end
  local q, heads = counts.of(head.u), lane.heads(head.n, head.u)
  if #heads == 1 and head.ct then
    local stored = redis.call('HGET', key.job(heads[1][2]), 'h')
    local first = stored and cjson.decode(stored) or head
    local between = first.ct and (head.ct - head.et) - (first.ct - first.et) or -1
    if between >= 0 then return math.min(between, q.tokens) end
  end
  return jobs * q.tokens / math.max(1, q.jobs)
end

-- What of the others has its turn before virtual time reaches the job's: {jobs, tokens}. Their lanes move with it, each by
-- its weight, as far as they have jobs.
local function before(head, own, jobs, length)
  local backlog = redis.call('HMGET', key.backlog(head.n), 'jobs', 'tokens')
  local q, weight = counts.of(head.u), user.limits(head.u).weight
  local others = math.max(0, (number(backlog[1]) or 0) - length)
  local tokens = math.max(0, (number(backlog[2]) or 0) - length * q.tokens / math.max(1, q.jobs))
  local sum = math.max(weight, number(redis.call('HGET', key.WEIGHT, head.n)) or weight)
  local by_turns = own / weight * (sum - weight)
  local tag = number(redis.call('ZSCORE', key.ready('lanes:' .. head.n), head.u))
  local late = tag and math.max(0, tag - fair.virtual('lanes:' .. head.n)) / 1000 * (sum - weight) or 0
  return {
    jobs = math.min(others, math.floor(jobs * (sum - weight) / weight)), tokens = math.min(tokens, by_turns + late),
  }
end

-- How long it takes until so many tokens of a pool's whole limit have come round: what is charged when the call ends
-- holds its estimate while it runs, and only its usage for the minute after it.
local function round_of(spec)
  local minute = spec.span + 750
  if spec.accounting == 'openai' then return minute end
  local call = pace.call(spec.pool)
  if call[1] == 0 or call[5] == 0 then return minute end
  return minute * math.min(1, (call[3] + call[4]) / call[5]) + call[2]
end

-- ms until the pools of a name have taken so many tokens more; nil where nothing limits them.
local function until_taken(head, tokens, now)
  local each, longest = {}, nil
  for _, name in ipairs(pool.of(head.n) or {}) do
    local settings = pool.settings(name)
    local spec, worst = settings and settings.spec, nil
    if spec and pool.paused(name, now) == 0 then
      local round = round_of(spec)
      for _, scope in ipairs(spec.scopes) do
        if scope.tokens then
          local w = window.open(spec, scope, now)
          local one = {ms = window.until_taken(w, tokens, round), rate = w.limit / round, w = w, round = round}
          if not worst or one.ms > worst.ms then worst = one end
        end
      end
      if not worst then return nil end
      each[#each + 1] = worst
    end
  end
  if #each == 0 then return nil end
  if #each == 1 then return each[1].ms end
  -- Several pools share the tokens by their rates.
  local sum = 0
  for _, one in ipairs(each) do sum = sum + one.rate end
  for _, one in ipairs(each) do
    local ms = window.until_taken(one.w, tokens * one.rate / sum, one.round)
    longest = math.max(longest or 0, ms)
  end
  return longest
end

-- The tokens that other names of the same provider take in the same time, for each of this one's.
local function beside(head)
  local first = (pool.of(head.n) or {})[1]
  local provider = first and string.match(first, '^[^/]+')
  local weights = redis.call('HGETALL', key.WEIGHT)
  local mine, all = 0, 0
  for i = 1, #weights, 2 do
    local other = weights[i] ~= head.n and (pool.of(weights[i]) or {})[1]
    if weights[i] == head.n then mine = tonumber(weights[i + 1]) end
    if weights[i] == head.n or (other and string.match(other, '^[^/]+') == provider) then all = all + weights[i + 1] end
  end
  return mine > 0 and all / mine or 1
end

-- What a list adds to the record of a queued job: as waiting.of, but without its place, which costs ten times as much.
function waiting.why(id, head, now)
  local reason, at = blocked(id, head, now)
  local due = reason == 'not_before' or reason == 'backoff'
  return {reason or false, false, due and math.floor(at)}, at, due
end

-- What a poll adds to the record of a queued job: {reason, position, start}, false for what there is not.
function waiting.of(id, head, now)
  local why, at, due = waiting.why(id, head, now)
  if due then return why end
  local reason = why[1]
  local jobs, length = lane.place(id, head)
  if not jobs then return why end
  local own = own_tokens(head, jobs)
  local others = before(head, own, jobs, length)
  local start = at
  if jobs + others.tokens > 0 and reason ~= 'concurrency' and reason ~= 'user_budget' then
    local ms = until_taken(head, (own + others.tokens) * beside(head) + head.et, now)
    start = ms and math.max(at or now, now + ms)
  end
  return {reason, jobs + others.jobs, start and math.floor(start) or false}
end
