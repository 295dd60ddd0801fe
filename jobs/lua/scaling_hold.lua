-- scaling_hold: keep what was advised, for whoever advises next.
-- ARGV     epoch, now ('' = server), what was held before, what is to be held
-- Returns  1
-- Touches  scaling
-- @use epoch
-- @use scaling
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
scaling.hold(ARGV[3], ARGV[4])
return 1
