-- wake: idle workers sleep on a list; whatever makes work possible pushes a token for one of them. Those that run jobs and
-- those that send webhooks sleep apart.
-- State
--   wake, wake:senders       list of tokens
--   asleep, asleep:senders   zset: worker -> ms until which it sleeps at the latest
-- @use clock
-- @use keys

local wake = {}
local RUNNERS = {tokens = key.WAKE, asleep = key.ASLEEP}
wake.SENDERS = {tokens = key.WAKE_SENDERS, asleep = key.ASLEEP_SENDERS}

-- Pushes `most` tokens, but never more than there are sleepers without one. whom: wake.SENDERS, or nil for those of jobs.
function wake.push(now, most, whom)
  whom = whom or RUNNERS
  local sleepers = redis.call('ZCOUNT', whom.asleep, int(now), '+inf')
  if sleepers == 0 then return end
  local missing = math.min(most, sleepers - redis.call('LLEN', whom.tokens))
  for _ = 1, missing do redis.call('RPUSH', whom.tokens, '1') end
end

function wake.sleep(worker, now, ms, whom) redis.call('ZADD', (whom or RUNNERS).asleep, int(now + ms), worker) end

function wake.up(worker, whom) redis.call('ZREM', (whom or RUNNERS).asleep, worker) end

-- Forgets sleepers that never came back and tokens that nobody is left to take.
function wake.tidy(now)
  for _, each in ipairs({RUNNERS, wake.SENDERS}) do
    redis.call('ZREMRANGEBYSCORE', each.asleep, '-inf', '(' .. int(now - 5000))
    if redis.call('ZCARD', each.asleep) == 0 then redis.call('DEL', each.tokens) end
  end
end
