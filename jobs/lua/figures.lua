-- figures: what happens, counted for metrics and for advice on scaling; the same for all processes, so that any of them
-- can be asked.
-- A job costs one RPUSH for each event. Events are counted many at once: by whoever makes the list long, by each sweep,
-- and by whoever reads the figures.
-- State
--   figures:new   list of events that are not counted yet, MOST_NEW at the most (its length is what bounds the work):
--       s <tier> <name> <tokens>       a job was accepted
--       c <pool> <ms> <0|1>            an attempt is over and its job is not; 1: the provider throttled it
--       e <tier> <name> <state> <wait ms> <whole ms> <pool> <ms> <0|1> <prompt> <completion> <cached> <held>
--                                      a job has ended, and with it an attempt; -1 and '-' for what there is none of
--       l <tokens>                     an attempt was lost that the provider may have charged
--       d <outcome>                    a webhook was delivered, is to be retried, or has failed
--   figures       hash of counters that only grow: '<what> <labels>' -> total; histograms '<what> <bucket>', '<what> sum'
-- @use clock
-- @use keys

local figures = {}
local MOST_NEW = 200
-- Servers keep small hashes as lists, in which finding one of a hundred counters takes ten times as long; a value as long
-- as this one makes it a table.
local ABOUT = 'Counters of Penstock, written by jobs/lua/figures.lua, which says what each of its fields means.'

-- Upper bounds of the histograms' buckets in ms; one more bucket has the rest.
function figures.bounds()
  return {10, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000, 600000, 1800000, 3600000,
    21600000, 86400000}
end

-- What events add to which counters. Its functions are made here, so that a script makes them only when it counts.
local function sums_of(events)
  local sums, bounds = {}, figures.bounds()
  local function add(field, n) sums[field] = (sums[field] or 0) + n end
  local function observe(what, ms)
    local bucket = #bounds + 1
    for i, bound in ipairs(bounds) do
      if ms <= bound then
        bucket = i
        break
      end
    end
    add(what .. ' ' .. bucket, 1)
    add(what .. ' sum', ms)
  end
  local function attempt(pool, ms, throttled)
    if throttled == '1' then add('throttled ' .. pool, 1) end
    if ms == '-1' then return end
    observe('call', tonumber(ms))
    add('calls ' .. pool, 1)
    add('ms ' .. pool, tonumber(ms))
  end
  local count = {}
  function count.s(text)
    local tier, name, tokens = string.match(text, '^s (%S+) (%S+) (%S+)')
    add('submitted ' .. tier .. ' ' .. name, 1)
    add('arrived ' .. name, tonumber(tokens))
  end
  function count.c(text) attempt(string.match(text, '^c (%S+) (%S+) (%S+)')) end
  function count.l(text) add('lost', tonumber(string.sub(text, 3))) end
  function count.d(text) add('delivery ' .. string.sub(text, 3), 1) end
  function count.e(text)
    local tier, name, state, wait, whole, pool, ms, throttled, prompt, completion, cached, held = string.match(text,
      '^e (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
    add('finished ' .. tier .. ' ' .. name .. ' ' .. state, 1)
    if wait ~= '-1' then observe('wait', tonumber(wait)) end
    observe('job', tonumber(whole))
    attempt(pool, ms, throttled)
    local used = 0
    held = tonumber(held)
    if prompt ~= '-1' then
      used = prompt + completion
      add('prompt ' .. name, tonumber(prompt))
      add('completion ' .. name, tonumber(completion))
      add('cached ' .. name, tonumber(cached))
      add('in ' .. pool, tonumber(prompt))
      add('out ' .. pool, tonumber(completion))
      add('held ' .. pool, math.max(held, 0))
    end
    if held > used then
      add('refunded', held - used)
    elseif held >= 0 then
      add('overrun', used - held)
    end
  end
  for _, text in ipairs(events) do count[string.sub(text, 1, 1)](text) end
  return sums
end

-- Counts the events there are.
function figures.count()
  local events = redis.call('LRANGE', key.NEW_FIGURES, 0, -1)
  if #events == 0 then return end
  local sums = sums_of(events)
  redis.call('DEL', key.NEW_FIGURES)
  redis.call('HSET', key.FIGURES, 'about', ABOUT)
  for field, n in pairs(sums) do redis.call('HINCRBY', key.FIGURES, field, int(n)) end
end

local function note(text)
  if redis.call('RPUSH', key.NEW_FIGURES, text) >= MOST_NEW then figures.count() end
end

-- A job was accepted.
function figures.submitted(head) note('s ' .. (head.ti or '-') .. ' ' .. head.n .. ' ' .. int(head.et)) end

-- How long the attempt took that is now over; nil where it was never sent, or nobody knows.
local function taken(head, now) return head.as and now - head.as end

-- An attempt is over, and its job goes on. throttled: by the provider.
function figures.attempt(head, throttled, now)
  local ms = taken(head, now)
  if ms then note('c ' .. head.po .. ' ' .. int(ms) .. (throttled and ' 1' or ' 0')) end
end

-- A job has ended as its head says; charge: {p, t, h} tokens, or nil.
function figures.finished(head, charge, throttled, now)
  local wait = head.sa and math.max(0, head.sa - math.max(head.c, head.nb or 0)) or -1
  note(table.concat({'e', (head.ti or '-'), head.n, head.st, int(wait), int(now - head.c), head.po or '-',
    int(taken(head, now) or -1), throttled and '1' or '0', int(charge and charge.p or -1),
    int(charge and charge.t - charge.p or -1), int(charge and charge.h or -1), int(head.day and head.et or -1)}, ' '))
end

-- An attempt was lost that the provider may have charged.
function figures.lost(tokens) note('l ' .. int(tokens)) end

-- An attempt to deliver a webhook is over. outcome: 'delivered', 'retried' or 'failed'.
function figures.delivery(outcome) note('d ' .. outcome) end

-- Counters that Python counted: a field and a number each.
function figures.add(field, n)
  redis.call('HSET', key.FIGURES, 'about', ABOUT)
  redis.call('HINCRBY', key.FIGURES, field, int(n))
end

-- All counters: field -> total.
function figures.totals()
  local flat, totals = redis.call('HGETALL', key.FIGURES), {}
  for i = 1, #flat, 2 do
    if flat[i] ~= 'about' then totals[flat[i]] = tonumber(flat[i + 1]) end
  end
  return totals
end
