-- figures_add: counters that a process has counted by itself.
-- ARGV     epoch, now ('' = server), then a field of figures.lua and what it has gained, for each
-- Returns  1
-- Touches  figures
-- @use epoch
-- @use figures
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
for i = 3, #ARGV, 2 do figures.add(ARGV[i], ARGV[i + 1]) end
return 1
