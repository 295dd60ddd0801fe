-- fair: whose turn it is. Start-time fair queuing in tokens, as the virtual token counter of "Fairness in Serving Large
-- Language Models" (OSDI 2024), in logarithmic time. The same code ranks users within a name and names among each other.
-- State (group: 'names', or 'lanes:<name>')
--   fair:ready:<group>     zset: who is waiting and may go -> start tag
--   fair:finish:<group>    zset: who was served -> finish tag; forgotten once virtual time has passed it
--   fair:virtual:<group>   string: virtual time
-- Tags are whole numbers, thousandths of tokens per weight.
-- @use clock
-- @use keys

local fair = {}

function fair.virtual(group) return number(redis.call('GET', key.virtual(group))) or 0 end

-- Somebody begins to wait: no credit for having been away.
function fair.enter(group, who)
  local finish = number(redis.call('ZSCORE', key.finish(group), who)) or 0
  redis.call('ZADD', key.ready(group), 'NX', int(math.max(finish, fair.virtual(group))), who)
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

function fair.leave(group, who) redis.call('ZREM', key.ready(group), who) end

function fair.cost(tokens, weight) return math.floor(tokens * 1000 / weight) end

-- Somebody could not take his turn for a reason that is not the others': no credit for that time either.
function fair.late(group, who)
  local tag, virtual = number(redis.call('ZSCORE', key.ready(group), who)), fair.virtual(group)
  if tag and tag < virtual then redis.call('ZADD', key.ready(group), int(virtual), who) end
end

-- Somebody's turn is used: virtual time moves to his start tag, his finish tag lies `cost` behind it.
function fair.served(group, who, cost)
  local tag = tonumber(redis.call('ZSCORE', key.ready(group), who))
  local virtual = fair.virtual(group)
  if tag > virtual then
    virtual = tag
    redis.call('SET', key.virtual(group), int(virtual))
  end
  redis.call('ZADD', key.finish(group), int(tag + cost), who)
  redis.call('ZADD', key.ready(group), int(tag + cost), who)
  redis.call('ZREMRANGEBYSCORE', key.finish(group), '-inf', int(virtual))
end

-- The turn cost `by` more (or less, if negative) than was thought.
function fair.correct(group, who, by)
  if by == 0 then return end
  if redis.call('ZSCORE', key.finish(group), who) then
    redis.call('ZINCRBY', key.finish(group), int(by), who)
  elseif by > 0 then
    redis.call('ZADD', key.finish(group), int(fair.virtual(group) + by), who)
  end
  if redis.call('ZSCORE', key.ready(group), who) then redis.call('ZINCRBY', key.ready(group), int(by), who) end
end
