-- deliveries_claim: up to `slots` deliveries, one lane after the other, each with a lease taken.
-- ARGV     epoch, now ('' = server), worker, sequence number of this claim, slots, lease (ms), most bytes of bodies and jobs
-- Returns  {wait ms, now ms, {id, token, head, body, url, secret, old secret, job's h, i, r, e}, ...}; see outbox.row. wait:
--          until something can change by itself
-- Touches  outbox.lua, claim:deliveries:<worker>, asleep:senders
-- The same claim repeated (its answer was lost) gives the same deliveries.
-- @use epoch
-- @use outbox
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.needed()
local now = clock(ARGV[2])
local worker, sequence, slots = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lease_ms, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])

local LONGEST_WAIT, MOST_LOOKS = 5000, 64

wake.up(worker, wake.SENDERS)
local last = redis.call('HMGET', key.deliveries_claim(worker), 'sequence', 'deliveries')
if last[1] == sequence then
  local answered = {LONGEST_WAIT, now}
  for id, token in string.gmatch(last[2], '(%S+) (%S+)') do
    local head = outbox.load(id)
    if head and head.lt == token then answered[#answered + 1] = outbox.row(id, head, now) end
  end
  return answered
end

local answer, taken, bytes = {0, now}, {}, 0
local looks, most_looks = 0, slots + MOST_LOOKS
while #taken < slots and looks < most_looks and bytes < most_bytes do
  local lane = redis.call('ZRANGEBYSCORE', key.OUTBOX, '-inf', '(' .. int(now + 1), 'LIMIT', 0, 1)[1]
  if not lane then break end
  looks = looks + 1
  local token = worker .. ':d' .. sequence .. ':' .. int(#taken + 1)
  local id, head = outbox.look(lane, worker, token, lease_ms, now, looks)
  if id then
    local row = outbox.row(id, head, now)
    for _, part in ipairs(row) do bytes = bytes + #part end
    taken[#taken + 1] = id .. ' ' .. token
    answer[#answer + 1] = row
  end
end

if #taken > 0 then
  redis.call('HSET', key.deliveries_claim(worker), 'sequence', sequence, 'deliveries', table.concat(taken, ' '))
  redis.call('PEXPIRE', key.deliveries_claim(worker), 600000)
end
local wait = LONGEST_WAIT
local next_look = redis.call('ZRANGE', key.OUTBOX, 0, 0, 'WITHSCORES')[2]
if next_look then wait = math.max(1, math.min(wait, tonumber(next_look) - now)) end
if #taken < slots then
  wake.sleep(worker, now, wait + 100, wake.SENDERS)
elseif next_look and tonumber(next_look) < now + 1 then
  wake.push(now, 1, wake.SENDERS)
end
answer[1] = math.ceil(wait)
return answer
