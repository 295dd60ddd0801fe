-- fair: whose turn it is. Start-time fair queuing in tokens, as the virtual token counter of "Fairness in Serving Large
-- Language Models" (OSDI 2024), in logarithmic time. The same code ranks users within a name and names among each other.
-- State (group: 'names', or 'lanes:<name>')
--   fair:ready:<group>     zset: who is waiting and may go -> start tag, which is the finish tag of the turn before
--   fair:finish:<group>    zset: who is not waiting -> finish tag, where that is ahead of virtual time
--   fair:virtual:<group>   string: virtual time
-- Tags are whole numbers, thousandths of tokens per weight.
-- @use clock
-- @use keys

local fair = {}
local virtuals = {}

function fair.virtual(group)
  local virtual = virtuals[group]
  if not virtual then
    virtual = number(redis.call('GET', key.virtual(group))) or 0
    virtuals[group] = virtual
  end
  return virtual
end

-- Somebody who was not there begins to wait: no credit for having been away.
function fair.enter(group, who)
  local tag, finish = fair.virtual(group), number(redis.call('ZSCORE', key.finish(group), who))
  if finish then
    tag = math.max(tag, finish)
    redis.call('ZREM', key.finish(group), who)
  end
  redis.call('ZADD', key.ready(group), int(tag), who)
end

-- Somebody waits no longer: where his last turn ended is remembered until virtual time has passed it.
function fair.leave(group, who)
  local tag, virtual = number(redis.call('ZSCORE', key.ready(group), who)), fair.virtual(group)
  redis.call('ZREM', key.ready(group), who)
  if tag and tag > virtual then
    redis.call('ZREMRANGEBYSCORE', key.finish(group), '-inf', int(virtual))
    redis.call('ZADD', key.finish(group), int(tag), who)
  end
end

-- An idle group is forgotten after an hour, its two clocks together; who begins to wait in it keeps it.
local IDLE_MS = 3600000

function fair.idle(group)
  redis.call('PEXPIRE', key.finish(group), IDLE_MS)
  redis.call('PEXPIRE', key.virtual(group), IDLE_MS)
end

function fair.busy(group)
  redis.call('PERSIST', key.finish(group))
  redis.call('PERSIST', key.virtual(group))
end

function fair.cost(tokens, weight) return math.floor(tokens * 1000 / weight) end

-- Somebody could not take his turn for a reason that is not the others': no credit for that time either.
function fair.late(group, who)
  local tag, virtual = number(redis.call('ZSCORE', key.ready(group), who)), fair.virtual(group)
  if tag and tag < virtual then redis.call('ZADD', key.ready(group), int(virtual), who) end
end

-- How far the turn of one who waits is behind that of another.
function fair.ahead(group, who, other)
  local tags = {redis.call('ZSCORE', key.ready(group), who), redis.call('ZSCORE', key.ready(group), other)}
  return (number(tags[1]) or 0) - (number(tags[2]) or 0)
end

-- Somebody's turn is used: virtual time moves to his start tag, his finish tag lies `cost` behind it.
function fair.served(group, who, cost)
  local tag = tonumber(redis.call('ZINCRBY', key.ready(group), int(cost), who)) - cost
  if tag > fair.virtual(group) then
    virtuals[group] = tag
    redis.call('SET', key.virtual(group), int(tag))
  end
end

-- The turn cost `by` more (or less, if negative) than was thought.
function fair.correct(group, who, by)
  if by == 0 or redis.call('ZADD', key.ready(group), 'XX', 'INCR', int(by), who)
    or redis.call('ZADD', key.finish(group), 'XX', 'INCR', int(by), who) then
    return
  end
  if by > 0 then
    redis.call('ZADD', key.finish(group), int(fair.virtual(group) + by), who)
    if redis.call('EXISTS', key.ready(group)) == 0 then fair.idle(group) end
  end
end
