-- settle: end a running job with what its last attempt brought; the actual usage takes the reservation's place.
-- ARGV     epoch, now ('' = server), id, token, state ('asked': that which it was asked to end in), charge (JSON {p, c, t, h, s}, '' = nothing), cost (nano-USD),
--          how its window settles (receipt.settle's, or 'in_flight'), result ('' = none), error (JSON, '' = none),
--          '1' if it failed for good and may be replayed, pause (JSON {ms, reason, alarm}, '' = none),
--          what the answer's headers told (JSON, see receipt.hear; '' = nothing)
-- Returns  'settled' (also when repeated) | 'lost': the job is no longer this lease's, nothing was changed
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
local id, token, state, how = ARGV[3], ARGV[4], ARGV[5], ARGV[8]
local head = record.load(id)
if not head or head.lt ~= token then return 'lost' end
if head.st ~= 'running' then return 'settled' end

local charge = ARGV[6] ~= '' and cjson.decode(ARGV[6]) or nil
if ARGV[13] ~= '' then receipt.hear(now, token, cjson.decode(ARGV[13])) end
-- What the total has beyond the prompt is output: some providers count tokens that are in neither.
local input, output = charge and charge.p or 0, charge and charge.t - charge.p or 0
if how ~= 'in_flight' then receipt.settle(now, token, how, input, output) end
if how == 'given_back' then head.as = nil end
local throttled = false
if ARGV[12] ~= '' then
  local pause = cjson.decode(ARGV[12])
  pool.pause(head.po, now, pause.ms, pause.reason, pause.alarm, token)
  throttled = not pause.alarm
elseif state == 'succeeded' then
  pool.resume(head.po)
end
if state == 'asked' then
  finish.asked(id, head, charge, now, tonumber(ARGV[7]))
  return 'settled'
end
if how == 'in_flight' and not charge then finish.lost(id, head, now) end
finish.job(id, head, state, {
  charge = charge, cost = tonumber(ARGV[7]), dead = ARGV[11] == '1', throttled = throttled,
  result = ARGV[9] ~= '' and ARGV[9] or nil, error = ARGV[10] ~= '' and ARGV[10] or nil,
}, now)
return 'settled'
