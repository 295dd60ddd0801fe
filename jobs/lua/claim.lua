-- claim: up to `slots` jobs in fair order, each with budget, concurrency and provider windows reserved and a lease taken.
-- ARGV     epoch, now ('' = server), worker, sequence number of this claim, slots, lease (ms), most bytes of bodies
-- Returns  {wait ms, now ms, {id, token, pool, head, body}, ...}; wait: until something can change by itself
-- Touches  everything of due.lua, claim:<worker>, asleep, heartbeat. Jobs and users are found in Redis.
-- The same claim repeated (its answer was lost) gives the same jobs.
-- @use epoch
-- @use due
-- @use record
-- @use pool
-- @use receipt
-- @use kept
-- @use room
-- @rarely finish

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local worker, sequence, slots = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lease_ms, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
-- Asked for no slots, a claim only tells what the one before has taken.
if slots > 0 then room.needed() else room.spared() end

local LONGEST_WAIT = 1000
-- Bounds of the work of one claim besides the jobs it takes: looks that find nothing in a name, looks in all; beyond
-- them every further name still gets a few, so that full or paused providers never hide one that is free.
local MOST_LANES, MOST_LOOKS, FEW_LANES = 32, 64, 2

due.heard(now, lease_ms)
due.work_off(now, lease_ms)
wake.up(worker)

local last = redis.call('HMGET', key.claim(worker), 'sequence', 'jobs')
if last[1] == sequence then
  local again = {LONGEST_WAIT, now}
  for id, token in string.gmatch(last[2], '(%S+) (%S+)') do
    local head = record.load(id)
    if head and head.st == 'running' and head.lt == token then
      local stored = redis.call('HMGET', key.job(id), 'h', 'b')
      again[#again + 1] = {id, token, head.po, stored[1], stored[2]}
    end
  end
  return again
end

local answer, taken, bytes = {0, now}, {}, 0
local wait = LONGEST_WAIT
-- Names and, by name, users that are done with in this claim, and how many; whether anything was cleared away.
local passed, skipped, cleared = {of = {}, n = 0}, {}, false
-- The lane of a job that a window is kept free for.
local favoured = nil
-- The lanes that were looked at.
local looked = {}

local function over(list, who)
  if not list.of[who] then list.of[who], list.n = true, list.n + 1 end
end

-- A window stays free for a job only while that job can still be next.
local function still_kept(spec)
  for _, entry in ipairs(overtaking.kept(spec, now)) do
    local head = record.load(entry[2])
    if not head or head.st ~= 'queued' or not lane.can_go(entry[2], head) or not window.possible(spec, head.et) then
      overtaking.free(entry[1])
    end
  end
end

-- Whether a job at its turn may keep a full window. The first in the order of turns may: it takes over what is kept for a
-- job whose turn is later, or small jobs of a long lane, one kept after the other, would starve it. Whoever comes later
-- keeps nothing beside it, so that no two jobs ever wait for each other.
local function may_keep(spec, id)
  local later = {}
  for _, entry in ipairs(overtaking.kept(spec, now)) do
    if entry[2] ~= id then
      local big = record.load(entry[2])
      if big and looked[big.n .. ' ' .. big.u] then return false end
      later[#later + 1] = entry[1]
    end
  end
  for _, w in ipairs(later) do overtaking.free(w) end
  return true
end

-- Whether the pool is kept free for a job of another lane, which is then looked at next.
local function kept_from(spec, id, head)
  local big = kept.from(spec, now, id, head)
  if big then favoured = {big.n, big.u} end
  return big ~= nil
end

local checked = {}

-- The first pool that can take the job now: settings; or nil, whether all are paused, whether any could ever take it, and
-- the windows that it may keep: of every pool that refuses it, or it would be overtaken in one without end.
local function place(id, head, pools)
  local paused_all, possible, full = true, false, {}
  for _, name in ipairs(pools) do
    local settings = pool.settings(name)
    if settings then
      local paused = pool.paused(name, now)
      if window.possible(settings.spec, head.et) then possible = true end
      if paused > 0 then
        wait = math.min(wait, paused)
      else
        paused_all = false
        if not checked[name] then
          still_kept(settings.spec)
          checked[name] = true
        end
        local refusal, ms, refused = window.refusal(settings.spec, now,
          learned.expected(settings.spec, head.u, head.pt, head.ot))
        if not refusal and not kept_from(settings.spec, id, head) then return settings end
        if refusal and may_keep(settings.spec, id) then
          for _, w in ipairs(refused) do full[#full + 1] = w end
        end
        if refusal and ms then wait = math.min(wait, ms) end
      end
    end
  end
  return nil, paused_all, possible, full
end

local function take(id, head, settings, entry, heads)
  local who = head.u
  lane.take(id, head, entry, heads)
  counts.move(head, -1, 1)
  if not head.day then
    head.day = day_of(now)
    budget.hold(who, head.day, id, head.et, head.x + DAY_MS, now)
    if user.anonymous(who) then budget.hold(user.EVERYBODY, head.day, id, head.et, head.x + DAY_MS, now) end
  end
  local token = worker .. ':' .. sequence .. ':' .. int(#taken + 1)
  head.st, head.at, head.lt, head.wk, head.po = 'running', head.at + 1, token, worker, settings.id
  head.sa, head.as = head.sa or now, now
  receipt.take(settings.spec, now, token, head.pt, head.ot, now + settings.margin + settings.timeout, nil, who)
  overtaking.overtook(settings.spec, now, id, head.et)
  pool.probe(settings.id, now, token)
  redis.call('ZADD', key.LEASES, int(now + lease_ms), finish.lease(id, token))
  local stored, body = record.save(id, head), redis.call('HGET', key.job(id), 'b')
  bytes = bytes + #body
  taken[#taken + 1] = id .. ' ' .. token
  answer[#answer + 1] = {id, token, settings.id, stored, body}
end

-- Looks at one lane: 'taken', 'skip' (nothing of it can go now), 'again' (something was cleared away), 'name' (none of
-- its name can go), 'full' (the answer is large enough).
local function look(name, who)
  looked[name .. ' ' .. who] = true
  local limits = user.limits(who)
  if limits.max_concurrent and counts.of(who).running >= limits.max_concurrent then
    lane.park(name, who, 'concurrency', now)
    return 'again'
  end
  local heads = lane.heads(name, who)
  if #heads == 0 then
    lane.empty(name, who)
    return 'again'
  end
  local poor = false
  for _, entry in ipairs(heads) do
    local id = entry[2]
    local head = record.load(id)
    if not head or head.st ~= 'queued' then
      redis.call('ZREM', key.lane(name, who), id)
      return 'again'
    end
    local everybody = user.anonymous(who) and number(redis.call('HGET', key.ANONYMOUS, 'tokens_per_day')) or nil
    if head.day or (budget.fits(who, day_of(now), id, head.et, limits.tokens_per_day)
      and budget.fits(user.EVERYBODY, day_of(now), id, head.et, everybody)) then
      local pools = pool.of(name)
      if not pools then
        local message = 'The configuration no longer serves the model ' .. name .. '.'
        finish.job(id, head, 'failed', {error = finish.error('unknown_model', message, head)}, now)
        return 'again'
      end
      if bytes > 0 and bytes + redis.call('HSTRLEN', key.job(id), 'b') > most_bytes then return 'full' end
      local settings, paused_all, possible, full = place(id, head, pools)
      if settings then
        take(id, head, settings, entry, heads)
        return 'taken'
      end
      if not possible then
        local message = 'The job needs more tokens than its provider now allows in a minute.'
        finish.job(id, head, 'failed', {error = finish.error('job_too_large', message, head)}, now)
        return 'again'
      end
      for _, w in ipairs(full) do overtaking.keep_for(w, id, head.et) end
      return paused_all and 'name' or 'skip'
    end
    poor = true
  end
  if poor then lane.park(name, who, 'user_budget', now) end
  return 'again'
end

local function next_of(group, done)
  for _, who in ipairs(redis.call('ZRANGE', key.ready(group), 0, done.n)) do
    if not done.of[who] then return who end
  end
  return nil
end

-- The lane to look at next: the one that a window is kept free for, if it may go, or else the first in order.
local function next_lane(name, most)
  if favoured then
    local kept_name, who = favoured[1], favoured[2]
    favoured = nil
    local done = passed.of[kept_name] or skipped[kept_name] and skipped[kept_name].of[who]
    if not done and redis.call('ZSCORE', key.ready('lanes:' .. kept_name), who) then return kept_name, who end
  end
  return name, skipped[name].n < most and next_of('lanes:' .. name, skipped[name]) or nil
end

local looks = 0
while #taken < slots do
  local name, who = next_of('names', passed), nil
  if not name then break end
  skipped[name] = skipped[name] or {of = {}, n = 0}
  local tired = looks >= slots + MOST_LOOKS
  name, who = next_lane(name, tired and FEW_LANES or MOST_LANES)
  if not who then
    over(passed, name)
  else
    looks = looks + 1
    skipped[name] = skipped[name] or {of = {}, n = 0}
    local outcome = look(name, who)
    if outcome == 'skip' then
      over(skipped[name], who)
    elseif outcome == 'name' then
      fair.late('names', name)
      over(passed, name)
    elseif outcome == 'again' then
      cleared = true
      if tired then over(passed, name) end
    elseif outcome == 'full' then
      wait = 1
      break
    end
  end
end

if #taken > 0 then
  redis.call('HSET', key.claim(worker), 'sequence', sequence, 'jobs', table.concat(taken, ' '))
  redis.call('PEXPIRE', key.claim(worker), 600000)
end
if #taken < slots then
  -- Far from the end of what may be cleared away, there may be more behind it.
  if cleared and looks >= slots + MOST_LOOKS then wait = 1 end
  local next_due = redis.call('ZRANGE', key.DUE, 0, 0, 'WITHSCORES')[2]
  if next_due then wait = math.min(wait, math.max(1, tonumber(next_due) - now)) end
  wake.sleep(worker, now, wait + 100)
elseif next_of('names', passed) then
  wake.push(now, 1)
end
answer[1] = math.ceil(wait)
return answer
