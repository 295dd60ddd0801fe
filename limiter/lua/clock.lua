-- clock: the time of a script, whole numbers as text, and UTC days.
-- State: none. Scripts take `now` in milliseconds as an argument; '' means the server's own clock, which is the one
-- clock that all processes share. Tests inject it.

local DAY_MS = 86400000

local function clock(injected)
  if injected ~= '' then return tonumber(injected) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Every number that is stored goes through here. Servers write whole numbers out in full, whatever their size, but differ
-- in how they write fractions and -0. Joined to text, Lua itself writes it out: in full below 10^14.
local function int(n) return math.floor(n + 0.5) end

local function number(text) return tonumber(text or false) end

-- The first millisecond of the UTC day after that of `ms`.
local function midnight_after(ms) return (math.floor(ms / DAY_MS) + 1) * DAY_MS end

-- 'YYYY-MM-DD' of a time in ms, in UTC. Civil-from-days by Howard Hinnant (chrono-compatible date algorithms).
local function day_of(ms)
  local z = math.floor(ms / DAY_MS) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local d = doy - math.floor((153 * mp + 2) / 5) + 1
  local m = mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400 + (m <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', y, m, d)
end

-- The first millisecond of a day written 'YYYY-MM-DD'. Days-from-civil, same source.
local function start_of(day)
  local y, m, d = tonumber(string.sub(day, 1, 4)), tonumber(string.sub(day, 6, 7)), tonumber(string.sub(day, 9, 10))
  if m <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local mp = m > 2 and m - 3 or m + 9
  local doy = math.floor((153 * mp + 2) / 5) + d - 1
  local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
  return (era * 146097 + doe - 719468) * DAY_MS
end

-- Lengthen a key's life to `at` (ms), never shorten it (EXPIREAT GT is not in Redis 6.2). Expiry is set as what is left
-- from `now`, so that an injected clock keeps keys as long as the server's would. Answers the ms it lives now, or, where
-- nothing had to change, the same below zero.
local function keep_until(key, at, now)
  local left = redis.call('PTTL', key)
  if left == -1 or (left >= 0 and left < at - now) then
    redis.call('PEXPIRE', key, int(math.max(1, at - now)))
    return math.max(1, at - now)
  end
  return -left
end
