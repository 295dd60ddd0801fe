-- sweep: work off what is due by time, count what is new, and tidy up; every process calls it once a second.
-- ARGV     epoch, now ('' = server), lease (ms)
-- Returns  1
-- Touches  everything of due.lua, and asleep, wake, workers, figures.lua, pace.lua
-- @use epoch
-- @use due
-- @use pace
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
local now = clock(ARGV[2])
due.work_off(now, tonumber(ARGV[3]))
wake.tidy(now)
pace.keep(now)
local again = lane.look_again()
if again > 0 then wake.push(now, again) end
redis.call('ZREMRANGEBYSCORE', key.WORKERS, '-inf', int(now - 60000))
return 1
