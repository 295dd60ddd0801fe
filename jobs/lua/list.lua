-- list: a user's jobs, newest first, a bounded number looked at in one call.
-- ARGV     epoch, now ('' = server), user, id to start after ('' = none; it may be gone), state to keep ('' = all), '=' and
--          the custom_id to keep ('' = all), how many to look at, how many to answer
-- Returns  {limits, last id looked at ('' = none), how it goes on, {id, head, info, result, error, waiting, webhooks}, ...}:
--          2 there are more such jobs, 1 there may be more, 0 there are none
-- Touches  jobs:<user>, job:<id>, and what record.lua and waiting.lua read
-- @use epoch
-- @use record
-- @use waiting

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local who, after, state, custom, look, most = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local index = key.jobs_of(who)
local found = redis.call('ZREVRANGEBYLEX', index, after == '' and '+' or '(' .. after, '-', 'LIMIT', 0, look)

local function wanted(head, info)
  if state ~= '' and head.st ~= state then return false end
  return custom == '' or cjson.decode(info).custom_id == string.sub(custom, 2)
end

local answer = {record.limits(who, now), found[#found] or '', #found == look and 1 or 0}
for _, id in ipairs(found) do
  local v = record.stored(id)
  local head = v[1] and cjson.decode(v[1])
  if not head then
    -- Housekeeping, which a server that takes no writes may refuse: what is read can be told all the same.
    redis.pcall('ZREM', index, id)
  elseif wanted(head, v[2]) then
    if #answer == 3 + most then
      answer[3] = 2
      break
    end
    local why = head.st == 'queued' and waiting.why(id, head, now) or {}
    answer[#answer + 1] = {id, v[1], v[2], v[3], v[4], why, v[5]}
  end
end
return answer
