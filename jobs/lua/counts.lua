-- counts: how many jobs and tokens wait, and how many jobs run: of each user, and for each name.
-- State
--   queue:<user>     hash: jobs, tokens (queued), running, parked (lanes); '<class> <name>': all tokens that were ever
--                    submitted to a class of a lane, since last nothing waited or ran
--   backlog:<name>   hash: jobs, tokens (queued)
-- @use clock
-- @use keys

local counts = {}
local queues = {}

-- {jobs, tokens, running, parked} of a user. Read once per script.
function counts.of(who)
  local q = queues[who]
  if not q then
    local v = redis.call('HMGET', key.queue(who), 'jobs', 'tokens', 'running', 'parked')
    q = {jobs = number(v[1]) or 0, tokens = number(v[2]) or 0, running = number(v[3]) or 0, parked = number(v[4]) or 0}
    queues[who] = q
  end
  return q
end

-- Counts jobs of the head's kind into (1) or out of (-1) what waits and what runs. The counters go when nothing does.
function counts.move(head, queued, running)
  local q, k = counts.of(head.u), key.queue(head.u)
  q.jobs, q.tokens, q.running = q.jobs + queued, q.tokens + queued * head.et, q.running + running
  if q.jobs <= 0 and q.running <= 0 then
    redis.call('DEL', k)
  else
    redis.call('HSET', k, 'jobs', int(q.jobs), 'tokens', int(q.tokens), 'running', int(q.running))
  end
  if queued == 0 then return end
  local backlog = key.backlog(head.n)
  if redis.call('HINCRBY', backlog, 'jobs', queued) <= 0 then
    redis.call('DEL', backlog)
  else
    redis.call('HINCRBY', backlog, 'tokens', int(queued * head.et))
  end
end

-- A lane of the user's was parked (1), or lanes no longer are (-n).
function counts.park(who, by)
  local q = counts.of(who)
  q.parked = q.parked + by
  redis.call('HSET', key.queue(who), 'parked', int(q.parked))
end

-- The tokens submitted to a class of the head's lane so far, with this one's.
function counts.line_up(head)
  return redis.call('HINCRBY', key.queue(head.u), (head.w and string.upper(head.pr) or head.pr) .. ' ' .. head.n, int(head.et))
end
