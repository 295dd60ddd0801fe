-- cancel: end a queued job now; ask the worker of a running one to stop it.
-- ARGV     epoch, now ('' = server), user, id
-- Returns  {'cancelled' | 'requested' | 'finished' | 'not_found', limits, view...}
-- Touches  finish.lua
-- @use epoch
-- @use record
-- @use finish
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
local now = clock(ARGV[2])
local who, id = ARGV[3], ARGV[4]
local head = record.load(id)
if not head or head.u ~= who then return {'not_found', record.limits(who, now)} end
local outcome = 'finished'
if head.st == 'queued' then
  -- Tokens of attempts before are the operator's: the user got nothing for them.
  finish.job(id, head, 'cancelled', {}, now)
  outcome = 'cancelled'
elseif head.st == 'running' then
  finish.request(id, head, 'cancelled', now)
  outcome = 'requested'
end
return {outcome, record.limits(who, now), id, unpack(record.view(id, now), 1, 6)}
