-- sweep: what every claim does first with the windows, and then asks, in one script. For tests only.
-- ARGV     now ('' = server), most receipts, window spec as JSON, tokens that would be asked for
-- Returns  {swept, reason ('' = they fit), wait in ms or -1}
-- Touches  window:<scope>, receipts, receipts:due
-- @use receipt

local now = clock(ARGV[1])
local swept = receipt.sweep(now, tonumber(ARGV[2]))
local reason, wait = window.refusal(cjson.decode(ARGV[3]), now, tonumber(ARGV[4]))
return {swept, reason or '', wait or -1}
