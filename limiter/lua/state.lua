-- state: what is used of a user's day and of the windows, for whoever uses the limiter alone.
-- ARGV     now ('' = server), user, day ('' = today), window spec as JSON
-- Returns  {used + held, held, windows as JSON: [[scope, limit, charged, in flight, requests limit, requests], ...]}
-- Touches  tokens:<user>:<day>, holds:<user>:<day>, window:<scope>
-- @use budget
-- @use window

local now = clock(ARGV[1])
local day = ARGV[3] ~= '' and ARGV[3] or day_of(now)
local total, held = budget.view(ARGV[2], day)
return {total, held, cjson.encode(window.view(cjson.decode(ARGV[4]), now))}
