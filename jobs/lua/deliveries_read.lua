-- deliveries_read: a delivery of the user's, with its attempts.
-- ARGV     epoch, now ('' = server), user, id
-- Returns  {head, attempt, ...}, the last attempt at the end; {} for another's or none
-- Touches  delivery:<id>
-- @use epoch
-- @use outbox

local failed = lost(ARGV[1])
if failed then return failed end
local k = key.delivery(ARGV[4])
local stored = redis.call('HGET', k, 'h')
local head = stored and cjson.decode(stored)
if not head or head.u ~= ARGV[3] then return {} end
local answer = {stored}
for n = math.max(1, head.k - 19), head.k do answer[#answer + 1] = redis.call('HGET', k, 'a' .. int(n)) or '{}' end
return answer
