-- dead: jobs that failed for good and may be replayed, the last to fail first; or one of them with its prompt.
-- ARGV     epoch, now ('' = server), id to start after ('' = the newest), how many; or, with '' for how many, the one id
-- Returns  {1 if there are more, {id, head, info, result, error, {}, webhooks}, ...} | {head, info, body}: {} if it is none of them
-- Touches  dead, job:<id>
-- @use epoch
-- @use record

local failed = lost(ARGV[1])
if failed then return failed end
local after, most = ARGV[3], tonumber(ARGV[4])

if not most then
  if not redis.call('ZSCORE', key.DEAD, after) then return {} end
  local stored = redis.call('HMGET', key.job(after), 'h', 'i', 'b')
  return stored[1] and stored or {}
end

local rank = after ~= '' and redis.call('ZREVRANK', key.DEAD, after)
local first = rank and rank + 1 or 0
local found = redis.call('ZREVRANGE', key.DEAD, first, first + most)
local answer = {#found > most and 1 or 0}
for i = 1, math.min(most, #found) do
  local stored = redis.call('HMGET', key.job(found[i]), 'h', 'i', 'r', 'e', 'w')
  if stored[1] then
    answer[#answer + 1] = {found[i], stored[1], stored[2], stored[3], stored[4], {}, stored[5]}
  else
    redis.call('ZREM', key.DEAD, found[i])
  end
end
return answer
