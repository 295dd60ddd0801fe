-- deliveries_recover: send an endpoint's failed deliveries once more, a bounded number in one call.
-- ARGV     epoch, now ('' = server), user, endpoint, made at or after (ms), how many
-- Returns  {'recovered', how many: less than asked for if there are no more} | {'not_found'}
-- Touches  outbox.lua
-- @use epoch
-- @use outbox
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local who, lane, most = ARGV[3], ARGV[4], tonumber(ARGV[6])
if not endpoints.of(who, lane) then return {'not_found'} end
local found = redis.call('ZRANGEBYSCORE', key.failed(lane), ARGV[5], '+inf', 'LIMIT', 0, most)
local count = 0
for _, id in ipairs(found) do
  local head = outbox.load(id)
  if head and head.st == 'failed' then
    outbox.redeliver(id, head, now)
    count = count + 1
  else
    redis.call('ZREM', key.failed(lane), id)
  end
end
return {'recovered', count, #found == most and 1 or 0}
