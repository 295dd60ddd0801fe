-- settle: the actual tokens in place of what reserve took, once.
-- ARGV     now ('' = server), user, day, job, how (see receipt.settle), input and output tokens used
-- Returns  the tokens that had been held of the budget, or -1: there was no hold (any more), nothing was changed
-- Touches  tokens:<user>:<day>, holds:<user>:<day>, window:<scope>, receipts, receipts:due
-- @use budget
-- @use receipt

local now = clock(ARGV[1])
local input, output = tonumber(ARGV[6]), tonumber(ARGV[7])
local held = budget.settle(ARGV[2], ARGV[3], ARGV[4], input + output)
receipt.settle(now, ARGV[4], ARGV[5], input, output)
return held or -1
