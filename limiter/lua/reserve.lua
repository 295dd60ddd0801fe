-- reserve: a job's tokens from its user's budget and from the provider's windows: all of them, or none.
-- ARGV     now ('' = server), user, day ('' = today), job, input and output tokens, budget limit ('' = unlimited),
--          latest end (ms), deadline of the call (ms), window spec as JSON
-- Returns  {'reserved', day} | {'user_budget', ms to midnight, or -1 if that does not help}
--          | {'provider_tokens' | 'provider_requests', ms or -1} | {'too_large'}: the windows could never hold it.
--          A repeated call answers the same and takes nothing more.
-- Touches  tokens:<user>:<day>, holds:<user>:<day>, window:<scope>, receipts, receipts:due
-- @use budget
-- @use receipt

local now = clock(ARGV[1])
local user, day, job = ARGV[2], ARGV[3], ARGV[4]
local input, output = tonumber(ARGV[5]), tonumber(ARGV[6])
local limit, latest_end, deadline = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local spec = cjson.decode(ARGV[10])
local fixed = day ~= ''
if not fixed then day = day_of(now) end

if redis.call('HEXISTS', RECEIPTS, job) == 1 then return {'reserved', receipt.note(job) or day} end
if not window.possible(spec, input + output) then return {'too_large'} end
if not budget.fits(user, day, job, input + output, limit) then
  return {'user_budget', not fixed and input + output <= limit and midnight_after(now) - now or -1}
end
local reason, wait = window.refusal(spec, now, input + output)
if reason then return {reason, wait or -1} end

budget.hold(user, day, job, input + output, latest_end, now)
receipt.take(spec, now, job, input, output, deadline, day)
return {'reserved', day}
