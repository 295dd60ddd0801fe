-- progress: how fast virtual time moves among the lanes of a name: how fast turns come, whoever takes part in them. Sampled
-- each few seconds by whoever samples the pace; a job costs nothing.
-- State
--   progress   hash: name in which something waits -> JSON list of whole numbers: the beginning of a minute (ms), samples
--              in it, the mean of their times (ms) and of virtual time then (fair.lua); then both means of up to KEPT
--              minutes before, the latest first
-- A full window lets turns through at once, and then for a minute none: means over whole minutes are as even as if they
-- came one by one, whenever in the minute they come.
-- @use clock
-- @use keys
-- @use fair

local progress = {}
local MINUTE_MS, KEPT = 60000, 4

local function mean(of, with, n) return of + math.floor((with - of) / n + 0.5) end

-- A name's list with one more sample; begun anew after a gap, or where virtual time was forgotten.
local function continued(list, now, virtual)
  if not list or now < list[3] or now - list[1] >= 2 * MINUTE_MS or virtual < list[4] then
    return {now, 1, now, virtual}
  end
  if now - list[1] < MINUTE_MS then
    local n = list[2] + 1
    list[2], list[3], list[4] = n, mean(list[3], now, n), mean(list[4], virtual, n)
    return list
  end
  local new = {list[1] + MINUTE_MS, 1, now, virtual}
  for i = 3, math.min(#list, 2 * KEPT + 2) do
    -- The list's own means, and those before them but for the oldest.
    new[i + 2] = list[i]
  end
  return new
end

-- Samples all names in which something waits, and forgets the others.
function progress.sample(now)
  local flat, lists = redis.call('HGETALL', key.PROGRESS), {}
  for i = 1, #flat, 2 do lists[flat[i]] = cjson.decode(flat[i + 1]) end
  redis.call('DEL', key.PROGRESS)
  for _, name in ipairs(redis.call('HKEYS', key.WEIGHT)) do
    local list = continued(lists[name], now, fair.virtual('lanes:' .. name))
    for i, value in ipairs(list) do list[i] = int(value) end
    redis.call('HSET', key.PROGRESS, name, '[' .. table.concat(list, ',') .. ']')
  end
end

-- Tokens by weight that virtual time moves in a ms, over the last minutes; 0 where that is not known.
function progress.speed(name)
  local stored = redis.call('HGET', key.PROGRESS, name)
  local list = stored and cjson.decode(stored) or {}
  local last = #list
  if last < 8 then return 0 end
  return (list[6] - list[last]) / 1000 / (list[5] - list[last - 1])
end
