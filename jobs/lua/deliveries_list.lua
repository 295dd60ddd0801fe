-- deliveries_list: a user's deliveries, those of the newest jobs first, a bounded number looked at in one call.
-- ARGV     epoch, now ('' = server), user, id to start after ('' = none), what ids begin with ('' = all), status to keep
--          ('' = all), how many to look at
-- Returns  {last id looked at ('' = none), 1 if there may be more, {id, head}, ...}
-- Touches  deliveries:<user>, delivery:<id>
-- @use epoch
-- @use outbox

local failed = lost(ARGV[1])
if failed then return failed end
local who, after, prefix, status, most = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local index = key.deliveries_of(who)
local from = after ~= '' and '(' .. after or prefix ~= '' and '(' .. prefix .. '~' or '+'
local to = prefix ~= '' and '[' .. prefix or '-'
local found = redis.call('ZREVRANGEBYLEX', index, from, to, 'LIMIT', 0, most)
local answer = {found[#found] or '', #found == most and 1 or 0}
for _, id in ipairs(found) do
  local head = redis.call('HGET', key.delivery(id), 'h')
  if not head then
    redis.call('ZREM', index, id)
  elseif status == '' or cjson.decode(head).st == status then
    answer[#answer + 1] = {id, head}
  end
end
return answer
