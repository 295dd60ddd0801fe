-- lane: one user's waiting jobs for one served name, and what of it may go.
-- State
--   lane:<name> <user> <class>   zset: job -> sequence. Classes i, s, b (interactive, standard, batch) for jobs whose
--                                budget is promised; I, S, B for those that wait for a budget, which stand apart
--   turns:<name> <user>          hash: class -> tokens served by weight; only while several classes wait
--   parked:<user>                hash: name -> 'user_budget' or 'concurrency': lanes that can't go until that changes
--   midnight                     zset: user -> ms at which a lane parked for its budget is looked at again
--   midnight:anonymous           zset: the anonymous ones among them -> ms since when; they wait for a common budget too
--   crowded                      set: users with a lane parked for their concurrency
--   fair:weights:<name>          hash: user -> weight, of the ready lanes;  fair:weight  hash: name -> their sum
--   queue:<user>                 hash: jobs, tokens (queued), running;  backlog:<name>  hash: jobs, tokens (queued)
-- @use clock
-- @use keys
-- @use user
-- @use fair

local lane = {}
local SHARE = {i = 8, s = 4, b = 1}
local CLASSES = {'i', 's', 'b', 'I', 'S', 'B'}

-- The class of a job by its priority, and by whether its budget is held.
function lane.class(head)
  return (head.w and not head.day) and string.upper(head.pr) or head.pr
end

local function six(name, who)
  local all = {}
  for _, class in ipairs(CLASSES) do all[#all + 1] = key.lane(name, who, class) end
  return all
end

local function any(name, who) return redis.call('EXISTS', unpack(six(name, who))) > 0 end

-- How many jobs wait in the lane.
function lane.length(name, who)
  local total = 0
  for _, k in ipairs(six(name, who)) do total = total + redis.call('ZCARD', k) end
  return total
end

-- The first job of each class of the lane: {{id, sequence}, ...}.
function lane.fronts(name, who)
  local fronts = {}
  for _, k in ipairs(six(name, who)) do
    local first = redis.call('ZRANGE', k, 0, 0, 'WITHSCORES')
    if first[1] then fronts[#fronts + 1] = {first[1], tonumber(first[2])} end
  end
  return fronts
end

local function ready(name, who)
  local group = 'lanes:' .. name
  if redis.call('ZSCORE', key.ready(group), who) then return end
  local weight = user.limits(who).weight
  fair.enter(group, who)
  redis.call('HSET', key.weights(name), who, int(weight))
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
  redis.call('HSET', key.parked(who), name, reason)
  if reason == 'user_budget' then
    redis.call('ZADD', key.MIDNIGHT, int(midnight_after(now)), who)
    if user.anonymous(who) then redis.call('ZADD', key.GUESTS, int(now), who) end
  elseif reason == 'concurrency' then
    redis.call('SADD', key.CROWDED, who)
  end
end

local function none_parked(who)
  redis.call('ZREM', key.MIDNIGHT, who)
  redis.call('SREM', key.CROWDED, who)
  if user.anonymous(who) then redis.call('ZREM', key.GUESTS, who) end
end

local function not_parked(name, who)
  if redis.call('HDEL', key.parked(who), name) == 1 and redis.call('EXISTS', key.parked(who)) == 0 then
    none_parked(who)
  end
end

-- Something of the user's has changed: all his parked lanes may be looked at again.
function lane.unpark(who)
  local parked = redis.call('HKEYS', key.parked(who))
  if #parked == 0 then return false end
  redis.call('DEL', key.parked(who))
  none_parked(who)
  for _, name in ipairs(parked) do
    if any(name, who) then ready(name, who) end
  end
  return true
end

-- The budget that all anonymous users share has changed: those who have waited longest are looked at again.
function lane.unpark_guests()
  for _, who in ipairs(redis.call('ZRANGE', key.GUESTS, 0, 15)) do lane.unpark(who) end
end

-- Counts a job into (by = 1) or out of (by = -1) what waits.
function lane.count(head, by)
  redis.call('HINCRBY', key.queue(head.u), 'jobs', by)
  redis.call('HINCRBY', key.queue(head.u), 'tokens', int(by * head.et))
  if redis.call('HINCRBY', key.backlog(head.n), 'jobs', by) <= 0 then
    redis.call('DEL', key.backlog(head.n))
  else
    redis.call('HINCRBY', key.backlog(head.n), 'tokens', int(by * head.et))
  end
end

-- Counts a job into or out of what runs; answers how many run. The counters go when nothing waits or runs.
function lane.run(who, by)
  local running = redis.call('HINCRBY', key.queue(who), 'running', by)
  if by < 0 and running <= 0 and (number(redis.call('HGET', key.queue(who), 'jobs')) or 0) <= 0 then
    redis.call('DEL', key.queue(who))
  end
  return running
end

-- Puts a job in its place in its lane, which becomes ready unless it is parked for a reason that still holds.
function lane.add(id, head)
  local class = lane.class(head)
  redis.call('ZADD', key.lane(head.n, head.u, class), int(head.q), id)
  local parked = redis.call('HGET', key.parked(head.u), head.n)
  if parked then
    if parked == 'concurrency' then return end
    -- Behind another that waits for a budget it has no turn; as the first of its class it may fit where that one did not.
    if SHARE[class] == nil and redis.call('ZRANK', key.lane(head.n, head.u, class), id) > 0 then return end
    not_parked(head.n, head.u)
  end
  ready(head.n, head.u)
end

-- Takes a job out of its lane; an empty lane is forgotten.
function lane.remove(id, head)
  redis.call('ZREM', key.lane(head.n, head.u, lane.class(head)), id)
  if not any(head.n, head.u) then
    unready(head.n, head.u)
    redis.call('DEL', key.turns(head.n, head.u))
    not_parked(head.n, head.u)
  end
end

-- The job at each class's turn, the class that is furthest behind its share first: {{class, id}, ...}.
function lane.heads(name, who)
  local heads = {}
  for _, class in ipairs(CLASSES) do
    local first = redis.call('ZRANGE', key.lane(name, who, class), 0, 0)[1]
    if first then heads[#heads + 1] = {class, first, 0} end
  end
  if #heads > 1 then
    local turns = key.turns(name, who)
    local floor = number(redis.call('HGET', turns, 'virtual')) or 0
    for order, head in ipairs(heads) do
      head[3] = math.max(floor, number(redis.call('HGET', turns, head[1])) or 0)
      head[4] = order
    end
    table.sort(heads, function(a, b)
      if a[3] ~= b[3] then return a[3] < b[3] end
      return a[4] < b[4]
    end)
  end
  return heads
end

-- A class's turn in its lane is used. `alone`: no other class waits, so there is nothing to remember.
function lane.turn(name, who, entry, tokens, alone)
  local turns = key.turns(name, who)
  if alone then return redis.call('DEL', turns) end
  redis.call('HSET', turns, 'virtual', int(entry[3]),
    entry[1], int(entry[3] + fair.cost(tokens, SHARE[string.lower(entry[1])])))
end

-- The lane's turn among the users of its name, and the name's among all names. Answers both costs' weights.
function lane.served(name, who, tokens)
  local weight = number(redis.call('HGET', key.weights(name), who)) or 1
  local sum = number(redis.call('HGET', key.WEIGHT, name)) or weight
  fair.served('lanes:' .. name, who, fair.cost(tokens, weight))
  fair.served('names', name, fair.cost(tokens, sum))
  return weight, sum
end

-- What was charged differs from what the turn was counted as.
function lane.correct(head, tokens)
  fair.correct('lanes:' .. head.n, head.u, fair.cost(tokens - head.et, head.wt))
  fair.correct('names', head.n, fair.cost(tokens - head.et, head.nw))
end

-- How many jobs will start before this one: within its own lane by the classes' turns (exact if its jobs are of one
-- size), and for the others' by their weights. Nothing is counted one by one.
function lane.position(id, head)
  local class = lane.class(head)
  local rank = redis.call('ZRANK', key.lane(head.n, head.u, class), id)
  if not rank then return nil end
  local turns = redis.call('HMGET', key.turns(head.n, head.u), 'virtual', unpack(CLASSES))
  local floor = number(turns[1]) or 0
  local start, cost, place = {}, {}, nil
  for order, each in ipairs(CLASSES) do
    start[order] = math.max(floor, number(turns[order + 1]) or 0)
    cost[order] = math.max(1, fair.cost(head.et, SHARE[string.lower(each)]))
    if each == class then place = order end
  end
  local mine = start[place] + rank * cost[place]
  local own, length = rank, 0
  for order, other in ipairs(CLASSES) do
    local waiting = redis.call('ZCARD', key.lane(head.n, head.u, other))
    length = length + waiting
    if order ~= place then
      -- Its turns before mine; at the same tag the earlier class goes first.
      local before = (mine - start[order]) / cost[order]
      own = own + math.min(waiting, math.max(0, order < place and math.floor(before) + 1 or math.ceil(before)))
    end
  end
  local others = math.max(0, (number(redis.call('HGET', key.backlog(head.n), 'jobs')) or 0) - length)
  local weight = user.limits(head.u).weight
  local sum = math.max(weight, number(redis.call('HGET', key.WEIGHT, head.n)) or weight)
  return own + math.min(others, math.floor(own * (sum - weight) / weight))
end
