-- read: a job as its user sees it, and the user's limits.
-- ARGV     epoch, now ('' = server), user, id ('' = the limits alone)
-- Returns  {limits} | {limits, id, head, info, result, error, waiting}: none of another user's
-- Touches  what record.lua reads
-- @use epoch
-- @use record

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local who, id = ARGV[3], ARGV[4]
local limits = record.limits(who, now)
local head = id ~= '' and record.load(id) or nil
if not head or head.u ~= who then return {limits} end
return {limits, id, unpack(record.view(id, now), 1, 6)}
