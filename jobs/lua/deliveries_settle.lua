-- deliveries_settle: note what an attempt came to, and what follows.
-- ARGV     epoch, now ('' = server), id, token, 'delivered' | 'failed' | 'gone' (410) | 'ours' (our own fault), status code
--          ('' = no answer), the attempt for its log (JSON), Retry-After (ms, '' = none), what waits are multiplied by
-- Returns  'settled' (also when repeated) | 'lost': no longer this lease's, nothing was changed
-- Touches  outbox.lua
-- @use epoch
-- @use outbox
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
local now = clock(ARGV[2])
local id, token = ARGV[3], ARGV[4]
local head = outbox.load(id)
if not head or (head.lt or head.lo) ~= token then return 'lost' end
if not head.lt then return 'settled' end
outbox.settle(id, head, ARGV[5], number(ARGV[6]), ARGV[7], number(ARGV[8]), tonumber(ARGV[9]), now)
return 'settled'
