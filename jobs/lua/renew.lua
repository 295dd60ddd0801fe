-- renew: a worker is alive: its leases run on.
-- ARGV     epoch, now ('' = server), worker, lease (ms), slots, running, '<id> <token>' of each running job
--          and each delivery under way
-- Returns  {tokens of the leases that are lost, ids to be stopped}
-- Touches  leases, outbox:leases, heartbeat, grace, workers, worker:<worker>, cancels:<worker>
-- @use epoch
-- @use due
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
local now = clock(ARGV[2])
local worker, lease_ms = ARGV[3], tonumber(ARGV[4])
due.heard(now, lease_ms)
redis.call('ZADD', key.WORKERS, int(now), worker)
redis.call('HSET', key.worker(worker), 'slots', ARGV[5], 'running', ARGV[6], 'seen', int(now))
redis.call('PEXPIRE', key.worker(worker), 60000)
local gone = {}
for i = 7, #ARGV do
  local leases = string.sub(ARGV[i], 1, 4) == 'dlv_' and key.DELIVERY_LEASES or key.LEASES
  if redis.call('ZSCORE', leases, ARGV[i]) then
    redis.call('ZADD', leases, int(now + lease_ms), ARGV[i])
  else
    -- Not the job: it may have come back to this very worker under another lease.
    gone[#gone + 1] = string.match(ARGV[i], ' (.+)$')
  end
end
return {gone, redis.call('SMEMBERS', key.cancels(worker))}
