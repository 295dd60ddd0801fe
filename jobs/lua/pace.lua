-- pace: at what rate tokens arrive, and what calls take: averages of the counters in figures.lua, for advice on
-- scaling. Brought up to date each few seconds by whoever sweeps, or asks; a job costs nothing.
-- State
--   pace   hash: at (ms); t <what> a counter as it was then; r <name> the tokens a minute that arrive for a served name,
--          s <name> the samples of which that is the mean, with commas; n <pool> calls seen, m <what> <pool> the means of
--          one call (ms, in, out, held: figures.lua); r, s and m in thousandths. Names and pools that are no longer
--          configured drop out.
-- @use arrivals
-- @use figures
-- @use pool
-- @rarely progress

local pace = {}
local SAMPLE_MS = 5000
-- How many calls count in a mean.
local CALLS = 200
local MEANS = {'ms', 'in', 'out', 'held'}

local function stored()
  local flat, last = redis.call('HGETALL', key.PACE), {}
  for i = 1, #flat, 2 do last[flat[i]] = tonumber(flat[i + 1]) or flat[i + 1] end
  return last
end

local function save(new)
  redis.call('DEL', key.PACE)
  for field, value in pairs(new) do
    redis.call('HSET', key.PACE, field, type(value) == 'number' and int(value) or value)
  end
end

-- Counts what is new, and samples the counters if that is due.
function pace.keep(now)
  local at = number(redis.call('HGET', key.PACE, 'at'))
  figures.count()
  if at and now >= at and now - at < SAMPLE_MS then return end
  local last, totals, new = stored(), figures.totals(), {at = now}
  local passed = at and now > at and now - at
  -- What a counter gained since the last sample; nothing the first time.
  local function gained(what)
    local total, before = totals[what] or 0, last['t ' .. what]
    new['t ' .. what] = total
    return before and passed and math.max(0, total - before) or 0
  end
  local names, pools = pool.configured()
  for _, name in ipairs(names) do
    local arrived, samples = gained('arrived ' .. name), last['s ' .. name]
    new['s ' .. name], new['r ' .. name] = samples, last['r ' .. name] or 0
    if passed then
      local sample, times = arrived * 60000 * 1000 / passed, math.max(1, passed / SAMPLE_MS)
      new['s ' .. name], new['r ' .. name] = arrivals.sampled(samples, sample, times)
    end
  end
  for _, id in ipairs(pools) do
    local calls, seen = gained('calls ' .. id), last['n ' .. id] or 0
    local share = calls > 0 and math.max(1 - math.exp(-calls / CALLS), calls / (seen + calls)) or 0
    new['n ' .. id] = seen + calls
    for _, what in ipairs(MEANS) do
      local more, mean = gained(what .. ' ' .. id), last['m ' .. what .. ' ' .. id] or 0
      new['m ' .. what .. ' ' .. id] = calls > 0 and mean + share * (more * 1000 / calls - mean) or mean
    end
  end
  save(new)
  progress.sample(now)
end

-- Tokens a minute that arrive for a served name.
function pace.arriving(name) return (number(redis.call('HGET', key.PACE, 'r ' .. name)) or 0) / 1000 end

-- What a call of the pool usually takes: {n calls seen, ms, prompt, completion, held tokens}.
function pace.call(id)
  local v = redis.call('HMGET', key.PACE, 'n ' .. id, 'm ms ' .. id, 'm in ' .. id, 'm out ' .. id, 'm held ' .. id)
  local means = {number(v[1]) or 0}
  for i = 2, 5 do means[i] = (number(v[i]) or 0) / 1000 end
  return means
end
