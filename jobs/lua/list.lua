-- list: a user's jobs, newest first, a bounded number looked at in one call.
-- ARGV     epoch, now ('' = server), user, created at the latest (ms, '+inf' = newest), id to start after ('' = none),
--          state to keep ('' = all), how many to look at
-- Returns  {limits, last id looked at ('' = none), its created (ms), 1 if there may be more, {id, head, info, result, error}, ...}
-- Touches  jobs:<user>, job:<id>, and what record.limits reads
-- @use epoch
-- @use record

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local who, latest, after, state, most = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local index = key.jobs_of(who)
-- Several jobs of one millisecond lie in the order of their ids; those up to `after` have been given.
local offset = 0
if after ~= '' then
  local rank = redis.call('ZREVRANK', index, after)
  if rank then
    offset = rank + 1
  else
    offset = redis.call('ZCOUNT', index, '(' .. latest, '+inf')
  end
end
local found = redis.call('ZREVRANGE', index, offset, offset + most - 1, 'WITHSCORES')
local answer = {record.limits(who, now), found[#found - 1] or '', found[#found] or '', #found == 2 * most and 1 or 0}
for i = 1, #found, 2 do
  local id = found[i]
  local stored = redis.call('HMGET', key.job(id), 'h', 'i', 'r', 'e')
  if not stored[1] then
    redis.call('ZREM', index, id)
  elseif state == '' or cjson.decode(stored[1]).st == state then
    answer[#answer + 1] = {id, stored[1], stored[2], stored[3], stored[4]}
  end
end
return answer
