-- lane: one user's waiting jobs for one served name, and what of it may go.
-- State
--   lane:<name> <user>     zset: job -> class and sequence, as class * STEP + sequence. Classes i, s, b (interactive,
--                          standard, batch) for jobs whose budget is promised; I, S, B for those that wait for a budget,
--                          which stand apart
--   turns:<name> <user>    hash: class -> tokens served by weight; only while several classes wait
--   parked:<user>          hash: name -> 'user_budget' or 'concurrency': lanes that can't go until that changes
--   midnight               zset: user -> ms at which a lane parked for its budget is looked at again
--   midnight:anonymous     zset: the anonymous ones among them -> ms since when; they wait for a common budget too
--   crowded                set: users with a lane parked for their concurrency
--   relook                 string: how far the parked have been looked at after a change of limits: 'budget' (midnight) or
--                          'concurrency' (crowded), and a cursor
--   fair:weights:<name>    hash: user -> weight, of the ready lanes;  fair:weight  hash: name -> their sum
-- @use clock
-- @use keys
-- @use user
-- @use fair
-- @use counts

local lane = {}
local SHARE = {i = 8, s = 4, b = 1}
local CLASSES = {'i', 's', 'b', 'I', 'S', 'B'}
local RANK = {i = 1, s = 2, b = 3, I = 4, S = 5, B = 6}
local STEP = 10 ^ 14
local MOST_RELOOKS = 500

-- The class of a job by its priority, and by whether its budget is held.
function lane.class(head)
  return (head.w and not head.day) and string.upper(head.pr) or head.pr
end

local function score(class, sequence) return RANK[class] * STEP + sequence end

local function any(name, who) return redis.call('EXISTS', key.lane(name, who)) == 1 end

-- How many jobs of a class wait, before a sequence if that is given.
local function of_class(name, who, class, sequence)
  local first = score(class, 0)
  return redis.call('ZCOUNT', key.lane(name, who), int(first), '(' .. string.format('%.0f', first + (sequence or STEP)))
end

-- How many jobs wait in the lane.
function lane.length(name, who) return redis.call('ZCARD', key.lane(name, who)) end

-- Whether the job waits in its lane, and the lane may go.
function lane.can_go(id, head)
  return redis.call('ZSCORE', key.ready('lanes:' .. head.n), head.u) and redis.call('ZSCORE', key.lane(head.n, head.u), id)
end

-- The first job of each class of the lane: {{id, sequence}, ...}.
function lane.fronts(name, who)
  local k, fronts = key.lane(name, who), {}
  for _, class in ipairs(CLASSES) do
    local from = score(class, 0)
    local first = redis.call('ZRANGEBYSCORE', k, int(from), int(from + STEP), 'WITHSCORES', 'LIMIT', 0, 1)
    if first[1] then fronts[#fronts + 1] = {first[1], first[2] - from} end
  end
  return fronts
end

local function ready(name, who)
  local weight = user.limits(who).weight
  if redis.call('HSETNX', key.weights(name), who, int(weight)) == 0 then return end
  local group = 'lanes:' .. name
  fair.enter(group, who)
  if redis.call('HINCRBY', key.WEIGHT, name, int(weight)) == weight then
    fair.busy(group)
    fair.busy('names')
    fair.enter('names', name)
  end
end

local function unready(name, who)
  local group = 'lanes:' .. name
  local weight = number(redis.call('HGET', key.weights(name), who))
  if not weight then return end
  fair.leave(group, who)
  redis.call('HDEL', key.weights(name), who)
  if redis.call('HINCRBY', key.WEIGHT, name, int(-weight)) <= 0 then
    redis.call('HDEL', key.WEIGHT, name)
    fair.leave('names', name)
    fair.idle(group)
    if redis.call('EXISTS', key.WEIGHT) == 0 then fair.idle('names') end
  end
end

-- Parks a lane until its user's budget or concurrency can have changed.
function lane.park(name, who, reason, now)
  unready(name, who)
  if redis.call('HSET', key.parked(who), name, reason) == 1 then counts.park(who, 1) end
  if reason == 'user_budget' then
    redis.call('ZADD', key.MIDNIGHT, int(midnight_after(now)), who)
    if user.anonymous(who) then redis.call('ZADD', key.GUESTS, int(now), who) end
  elseif reason == 'concurrency' then
    redis.call('SADD', key.CROWDED, who)
  end
end

-- A lane that is in the order of turns and has no job (any more) has no turn either.
function lane.empty(name, who) unready(name, who) end

local function none_parked(who)
  redis.call('ZREM', key.MIDNIGHT, who)
  redis.call('SREM', key.CROWDED, who)
  if user.anonymous(who) then redis.call('ZREM', key.GUESTS, who) end
end

local function not_parked(name, who)
  if counts.of(who).parked == 0 or redis.call('HDEL', key.parked(who), name) == 0 then return end
  counts.park(who, -1)
  if counts.of(who).parked == 0 then none_parked(who) end
end

-- Why the lane is parked; nil if it is not.
function lane.parked(name, who)
  return counts.of(who).parked > 0 and redis.call('HGET', key.parked(who), name) or nil
end

-- Something of the user's has changed: all his parked lanes may be looked at again.
function lane.unpark(who)
  local parked = counts.of(who).parked > 0 and redis.call('HKEYS', key.parked(who)) or {}
  if #parked == 0 then return false end
  redis.call('DEL', key.parked(who))
  counts.park(who, -#parked)
  none_parked(who)
  for _, name in ipairs(parked) do
    if any(name, who) then ready(name, who) end
  end
  return true
end

-- Limits have changed for everybody: all who are parked are looked at again, by lane.look_again.
function lane.limits_changed() redis.call('SET', key.RELOOK, 'budget 0', 'PX', int(DAY_MS)) end

-- Looks at some more of them; answers how many.
function lane.look_again()
  local stored = redis.call('GET', key.RELOOK)
  if not stored then return 0 end
  local reason, cursor = string.match(stored, '(%a+) (%d+)')
  local budgets, page = reason == 'budget', nil
  if budgets then
    page = redis.call('ZSCAN', key.MIDNIGHT, cursor, 'COUNT', MOST_RELOOKS)
  else
    page = redis.call('SSCAN', key.CROWDED, cursor, 'COUNT', MOST_RELOOKS)
  end
  for i = 1, #page[2], budgets and 2 or 1 do lane.unpark(page[2][i]) end
  if page[1] ~= '0' then
    redis.call('SET', key.RELOOK, reason .. ' ' .. page[1], 'PX', int(DAY_MS))
  elseif budgets then
    redis.call('SET', key.RELOOK, 'concurrency 0', 'PX', int(DAY_MS))
  else
    redis.call('DEL', key.RELOOK)
  end
  return #page[2]
end

-- The budget that all anonymous users share has changed: those who have waited longest are looked at again.
function lane.unpark_guests()
  for _, who in ipairs(redis.call('ZRANGE', key.GUESTS, 0, 15)) do lane.unpark(who) end
end

-- Puts a job in its place in its lane, which becomes ready unless it is parked for a reason that still holds.
function lane.add(id, head)
  local class = lane.class(head)
  redis.call('ZADD', key.lane(head.n, head.u), int(score(class, head.q)), id)
  local parked = lane.parked(head.n, head.u)
  if parked then
    if parked == 'concurrency' then return end
    -- Behind another that waits for a budget it has no turn; as the first of its class it may fit where that one did not.
    if SHARE[class] == nil and of_class(head.n, head.u, class, head.q) > 0 then return end
    not_parked(head.n, head.u)
  end
  ready(head.n, head.u)
end

-- Takes a job out of its lane; an empty lane is forgotten.
function lane.remove(id, head)
  if redis.call('ZREM', key.lane(head.n, head.u), id) == 1 and not any(head.n, head.u) then
    unready(head.n, head.u)
    redis.call('DEL', key.turns(head.n, head.u))
    not_parked(head.n, head.u)
  end
end

local function class_of(stored) return CLASSES[math.floor(stored / STEP)] end

-- The job at each class's turn, the class that is furthest behind its share first: {{class, id, tag}, ...}.
function lane.heads(name, who)
  local k = key.lane(name, who)
  local first, last = redis.call('ZRANGE', k, 0, 0, 'WITHSCORES'), redis.call('ZRANGE', k, -1, -1, 'WITHSCORES')
  if not first[1] then return {} end
  local low, high = class_of(first[2]), class_of(last[2])
  local heads = {{low, first[1], 0}}
  if low == high then return heads end
  for rank = RANK[low] + 1, RANK[high] do
    local class = CLASSES[rank]
    local next_id = redis.call('ZRANGEBYSCORE', k, int(score(class, 0)), int(score(class, STEP)), 'LIMIT', 0, 1)[1]
    if next_id then heads[#heads + 1] = {class, next_id, 0} end
  end
  local turns = redis.call('HMGET', key.turns(name, who), 'virtual', unpack(CLASSES))
  local floor = number(turns[1]) or 0
  for _, head in ipairs(heads) do head[3] = math.max(floor, number(turns[RANK[head[1]] + 1]) or 0) end
  table.sort(heads, function(a, b)
    if a[3] ~= b[3] then return a[3] < b[3] end
    return RANK[a[1]] < RANK[b[1]]
  end)
  return heads
end

-- Takes the job at its turn out of its lane, and counts the turn: of its class, of the lane among the users of its name,
-- and of the name among all names. entry: its own of heads. Keeps both costs' weights in the head.
function lane.take(id, head, entry, heads)
  local name, who, class = head.n, head.u, entry[1]
  head.wt = user.limits(who).weight
  head.nw = math.max(head.wt, number(redis.call('HGET', key.WEIGHT, name)) or 0)
  fair.served('lanes:' .. name, who, fair.cost(head.et, head.wt))
  fair.served('names', name, fair.cost(head.et, head.nw))
  lane.remove(id, head)
  if #heads == 1 then return end
  -- What classes were served counts only while several wait.
  if #heads == 2 and of_class(name, who, class) == 0 then return redis.call('DEL', key.turns(name, who)) end
  redis.call('HSET', key.turns(name, who), 'virtual', int(entry[3]),
    class, int(entry[3] + fair.cost(head.et, SHARE[string.lower(class)])))
end

-- Whether a job may overtake one of another lane that is kept from its turn. Overtaking is a loan: by it a lane, or a
-- name where these differ, gets ahead by no more than half of what the other's turn costs, however many jobs of the other
-- it overtakes one after the other.
function lane.may_overtake(head, big)
  local group, who, other = 'names', head.n, big.n
  local weight, of_other = number(redis.call('HGET', key.WEIGHT, who)), number(redis.call('HGET', key.WEIGHT, other))
  if who == other then
    group, who, other = 'lanes:' .. who, head.u, big.u
    weight, of_other = user.limits(who).weight, user.limits(other).weight
  end
  return fair.ahead(group, who, other) + fair.cost(head.et, weight or 1) <= fair.cost(big.et, of_other or 1) / 2
end

-- What was charged differs from what the turn was counted as.
function lane.correct(head, tokens)
  fair.correct('lanes:' .. head.n, head.u, fair.cost(tokens - head.et, head.wt))
  fair.correct('names', head.n, fair.cost(tokens - head.et, head.nw))
end

-- The places of a job in its lane: how many of the lane's jobs will start before it by the classes' turns (exact if its
-- jobs are of one size), how many wait in all, and its heads; nil if it is not there.
function lane.place(id, head)
  local name, who, class = head.n, head.u, lane.class(head)
  local k = key.lane(name, who)
  local rank = redis.call('ZRANK', k, id)
  if not rank then return nil end
  local length = redis.call('ZCARD', k)
  local heads = lane.heads(name, who)
  if #heads == 1 then return rank, length, heads end
  local before, starts, mine = {}, {}, nil
  for _, entry in ipairs(heads) do
    local cost = math.max(1, fair.cost(head.et, SHARE[string.lower(entry[1])]))
    starts[entry[1]], before[entry[1]] = entry[3], cost
    if entry[1] == class then
      rank = of_class(name, who, class, head.q)
      mine = entry[3] + rank * cost
    end
  end
  for other, cost in pairs(before) do
    if other ~= class then
      -- Its turns before mine; at the same tag the earlier class goes first.
      local turns = (mine - starts[other]) / cost
      turns = RANK[other] < RANK[class] and math.floor(turns) + 1 or math.ceil(turns)
      rank = rank + math.min(of_class(name, who, other), math.max(0, turns))
    end
  end
  return rank, length, heads
end
