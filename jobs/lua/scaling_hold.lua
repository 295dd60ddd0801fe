-- scaling_hold: keep what was advised, for whoever advises next.
-- ARGV     epoch, now ('' = server), what was held before, what is to be held
-- Returns  1
-- Touches  scaling
-- @use epoch
-- @use scaling

local failed = lost(ARGV[1])
if failed then return failed end
scaling.hold(ARGV[3], ARGV[4])
return 1
