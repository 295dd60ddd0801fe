-- list: a user's jobs, newest first, a bounded number looked at in one call.
-- ARGV     epoch, now ('' = server), user, id to start after ('' = none; it may be gone), state to keep ('' = all), how many
--          to look at
-- Returns  {limits, last id looked at ('' = none), 1 if there may be more, {id, head, info, result, error, {}, webhooks}, ...}
-- Touches  jobs:<user>, job:<id>, and what record.limits reads
-- @use epoch
-- @use record

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local who, after, state, most = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local index = key.jobs_of(who)
local found = redis.call('ZREVRANGEBYLEX', index, after == '' and '+' or '(' .. after, '-', 'LIMIT', 0, most)
local answer = {record.limits(who, now), found[#found] or '', #found == most and 1 or 0}
for _, id in ipairs(found) do
  local stored = redis.call('HMGET', key.job(id), 'h', 'i', 'r', 'e', 'w')
  if not stored[1] then
    redis.call('ZREM', index, id)
  elseif state == '' or cjson.decode(stored[1]).st == state then
    answer[#answer + 1] = {id, stored[1], stored[2], stored[3], stored[4], {}, stored[5]}
  end
end
return answer
