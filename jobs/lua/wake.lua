-- wake: idle workers sleep on a list; whatever makes work possible pushes a token for one of them.
-- State
--   wake     list of tokens
--   asleep   zset: worker -> ms until which it sleeps at the latest
-- @use clock
-- @use keys

local wake = {}

-- Pushes `most` tokens, but never more than there are sleepers without one.
function wake.push(now, most)
  local sleepers = redis.call('ZCOUNT', key.ASLEEP, int(now), '+inf')
  if sleepers == 0 then return end
  local missing = math.min(most, sleepers - redis.call('LLEN', key.WAKE))
  for _ = 1, missing do redis.call('RPUSH', key.WAKE, '1') end
end

function wake.sleep(worker, now, ms) redis.call('ZADD', key.ASLEEP, int(now + ms), worker) end

function wake.up(worker) redis.call('ZREM', key.ASLEEP, worker) end

-- Forgets sleepers that never came back and tokens that nobody is left to take.
function wake.tidy(now)
  redis.call('ZREMRANGEBYSCORE', key.ASLEEP, '-inf', '(' .. int(now - 5000))
  if redis.call('ZCARD', key.ASLEEP) == 0 then redis.call('DEL', key.WAKE) end
end
