-- erase: a finished job's record, prompt and result go now, and with them its deliveries; what it used stays counted.
-- ARGV     epoch, now ('' = server), user, id
-- Returns  {'erased' | 'unfinished' | 'not_found', limits}
-- Touches  job:<id>, jobs:<user>, idem:<user>:<digest>, dead, outbox.lua
-- @use epoch
-- @use record
-- @rarely outbox

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local who, id = ARGV[3], ARGV[4]
local head = record.load(id)
local outcome = 'not_found'
if head and head.u == who then
  outcome = 'unfinished'
  if record.final(head) then
    outbox.erase(id, head, now)
    redis.call('DEL', key.job(id))
    redis.call('ZREM', key.jobs_of(who), id)
    redis.call('ZREM', key.DEAD, id)
    if head.ik then redis.call('DEL', key.idempotency(who, head.ik)) end
    outcome = 'erased'
  end
end
return {outcome, record.limits(who, now)}
