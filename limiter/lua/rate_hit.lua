-- rate_hit: count one request of a user, or refuse it.
-- ARGV     now ('' = server), user, limits as JSON {limit, window, block, per_day} (requests, ms)
-- Returns  allowed (1, 0), wait in ms, remaining (-1: unlimited), ms until all are free
-- Touches  rate:<user>, rate:<user>:block, requests:<user>:<day>
-- @use rate

local now = clock(ARGV[1])
local limits = cjson.decode(ARGV[3])
local allowed, wait, view = rate.hit(ARGV[2], limits, now)
return {allowed and 1 or 0, wait, view.remaining or -1, view.reset}
