-- operations: everything that operators' tools watch, in one answer: counters, what waits and why, pools, workers.
-- ARGV     epoch, now ('' = server), lease (ms): a worker silent for longer is not counted
-- Returns  JSON {now; counters: {field of figures.lua: total}; bounds: of histograms, in ms;
--          names: [{name, pools: [pool, ...] in order, jobs, tokens waiting, r tokens a minute arriving,
--            due: {not_before, backoff}, parked: {user_budget, concurrency}: jobs of those, why: what the others wait
--            for, c: ms at which the oldest was accepted}];
--          pools: [{pool, accounting, estimates, scopes: [{kt, kr limits as configured, lt, lr limits in force, t f r
--            tokens charged, in flight, requests}], pu paused until, call: {n calls seen; means of one: ms, prompt,
--            completion, held tokens}}];
--          workers: [{slots, running}]; running: jobs, also of silent workers; soon: jobs, and receivers of webhooks, due
--          within a minute, and deliveries under way; held: what scaling.lua keeps}
-- Touches  figures.lua, pace.lua, and what is read: config:*, backlog:*, lanes, due, job:*, window:*, learned:*, pause:*,
--          workers, worker:*, asleep, midnight, crowded, outbox:lanes, outbox:leases, scaling
-- Nothing is looked at job by job: beyond MOST_LOOKS users or due jobs, what is found in so many of them stands for all.
-- @use epoch
-- @use record
-- @use pace
-- @use scaling
-- @use room

local failed = lost(ARGV[1])
if failed then return failed end
room.spared()
local now, lease_ms = clock(ARGV[2]), tonumber(ARGV[3])
local MOST_LOOKS, MOST_LANES = 40, 20
local SOON_MS = 60000

pace.keep(now)
local names, pools = pool.configured()
local by_name = {}
for _, name in ipairs(names) do
  local backlog = redis.call('HMGET', key.backlog(name), 'jobs', 'tokens')
  by_name[name] = {name = name, pools = pool.of(name), jobs = number(backlog[1]) or 0, tokens = number(backlog[2]) or 0,
    r = pace.arriving(name), due = {not_before = 0, backoff = 0}, parked = {user_budget = 0, concurrency = 0}}
end

-- The oldest job seen of a name: the one with the lowest sequence.
local function seen(name, sequence, id)
  local found = by_name[name]
  if not found.first or sequence < found.first then found.first, found.id = sequence, id end
end

local function look_at_lane(name, who)
  for _, head in ipairs(lane.fronts(name, who)) do seen(name, head[2], head[1]) end
end

-- Jobs that are due later, by why.
local due = redis.call('ZRANGE', key.DUE, 0, MOST_LOOKS - 1)
local share = #due > 0 and redis.call('ZCARD', key.DUE) / #due
for _, id in ipairs(due) do
  local head = record.load(id)
  local found = head and by_name[head.n]
  if found then
    local why = head.bk and 'backoff' or 'not_before'
    found.due[why] = found.due[why] + share
    seen(head.n, head.q, id)
  end
end

-- Jobs in lanes that are parked, by why.
local function look_at_parked(reason, users, all)
  for _, who in ipairs(users) do
    local parked = redis.call('HGETALL', key.parked(who))
    for i = 1, #parked, 2 do
      local found = by_name[parked[i]]
      if found and parked[i + 1] == reason then
        found.parked[reason] = found.parked[reason] + lane.length(parked[i], who) * all / #users
        look_at_lane(parked[i], who)
      end
    end
  end
end
look_at_parked('user_budget', redis.call('ZRANGE', key.MIDNIGHT, 0, MOST_LOOKS - 1), redis.call('ZCARD', key.MIDNIGHT))
look_at_parked('concurrency', redis.call('SRANDMEMBER', key.CROWDED, MOST_LOOKS), redis.call('SCARD', key.CROWDED))

-- What jobs at their turn wait for: the answer of the first pool that would take one of usual size.
local function waits_for(found)
  if found.jobs == 0 then return 'none' end
  local each, why = math.ceil(found.tokens / found.jobs), nil
  for _, id in ipairs(found.pools) do
    local settings = pool.settings(id)
    if settings then
      local paused = pool.paused(id, now) > 0
      local reason = paused and 'provider_paused'
        or window.refusal(settings.spec, now, learned.expected(settings.spec, nil, 0, each))
      if not reason then
        return redis.call('ZCOUNT', key.ASLEEP, int(now), '+inf') == 0 and 'concurrency' or 'none'
      end
      why = why or reason
    end
  end
  return why or 'none'
end

local waiting = {}
for i, name in ipairs(names) do
  local found = by_name[name]
  -- Whoever has waited longest is either next, or has had most of late.
  local group = key.ready('lanes:' .. name)
  for _, who in ipairs(redis.call('ZRANGE', group, 0, MOST_LANES / 2 - 1)) do look_at_lane(name, who) end
  for _, who in ipairs(redis.call('ZREVRANGE', group, 0, MOST_LANES / 2 - 1)) do look_at_lane(name, who) end
  local head = found.id and record.load(found.id)
  found.why, found.c, found.first, found.id = waits_for(found), head and head.c or nil, nil, nil
  waiting[i] = found
end

local function scopes_of(spec)
  local scopes = {}
  for i, used in ipairs(window.view(spec, now)) do
    local known = learned.of(spec.scopes[i], now)
    scopes[i] = {kt = spec.scopes[i].tokens, kr = spec.scopes[i].requests, lt = known.tokens, lr = known.requests,
      t = used[3], f = used[4], r = used[6]}
  end
  return scopes
end

local states = {}
for i, id in ipairs(pools) do
  local settings = pool.settings(id)
  local paused = pool.paused(id, now)
  states[i] = {pool = id, accounting = settings.spec.accounting, estimates = settings.spec.estimates,
    scopes = scopes_of(settings.spec), pu = paused > 0 and now + paused or nil, call = pace.call(id)}
end

local workers = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', key.WORKERS, int(now - lease_ms), '+inf')) do
  local told = redis.call('HMGET', key.worker(worker), 'slots', 'running')
  if told[1] then workers[#workers + 1] = {slots = tonumber(told[1]), running = tonumber(told[2])} end
end

local soon = redis.call('ZCARD', key.DELIVERY_LEASES)
for _, k in ipairs({key.DUE, key.OUTBOX}) do soon = soon + redis.call('ZCOUNT', k, '-inf', int(now + SOON_MS)) end

return cjson.encode({
  now = now, counters = figures.totals(), bounds = figures.bounds(), names = waiting, pools = states, workers = workers,
  running = redis.call('ZCARD', key.LEASES), soon = soon,
  held = scaling.held(),
})
