-- retry: put a running job back to wait for another attempt, or, never sent, for its turn.
-- ARGV     epoch, now ('' = server), id, token, after (ms), '1' if the attempt counted, how its window settles
--          ('given_back', 'tokens_back', 'kept', 'in_flight'), what failed ('throttled', 'unknown', 'connect', ''),
--          pause of the pool (JSON {ms, reason, alarm}, '' = none), what the answer's headers told (JSON, see receipt.hear;
--          '' = nothing)
-- Returns  'queued' | 'cancelled' | 'expired' (it was asked to end meanwhile) | 'lost': no longer this lease's
-- Touches  finish.lua
-- @use epoch
-- @use finish
-- @use room
-- @use receipt
-- @rarely pool

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
local now = clock(ARGV[2])
local id, token, after, counted, how, kind = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7], ARGV[8]
local head = record.load(id)
if not head or head.st ~= 'running' or head.lt ~= token then return 'lost' end

if ARGV[10] ~= '' then receipt.hear(now, token, cjson.decode(ARGV[10])) end
if how ~= 'in_flight' then receipt.settle(now, token, how, head.pt, head.ot) end
if how == 'given_back' then head.as = nil end
if ARGV[9] ~= '' then
  local pause = cjson.decode(ARGV[9])
  pool.pause(head.po, now, pause.ms, pause.reason, pause.alarm, token)
end
if head.cx then
  local charge = how == 'in_flight' and finish.estimate(head) or nil
  finish.asked(id, head, charge, now)
  return head.st
end
if how == 'in_flight' then finish.lost(id, head, now) end
-- An attempt that came to nothing on our side says nothing about the provider: what was in a row stays so.
if counted or kind ~= '' then
  head.th = kind == 'throttled' and (head.th or 0) + 1 or nil
  head.fc = kind == 'connect' and (head.fc or 0) + 1 or nil
end
if kind == 'unknown' then head.un = (head.un or 0) + 1 end
finish.put_back(id, head, after, counted, now, kind == 'throttled')
return 'queued'
