-- forbidden: a job got a 403: whether its provider refuses everybody, or only what this user sent.
-- ARGV     epoch, now ('' = server), pool, user, lease token
-- Returns  1: another user's job got one before, and none got through since; 0: not known to be so
-- Touches  pause:<pool>
-- The same question repeated (its answer was lost) gets the same answer.
-- @use epoch
-- @use room
-- @use pool

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
return pool.forbidden(ARGV[3], ARGV[4], ARGV[5], clock(ARGV[2])) and 1 or 0
