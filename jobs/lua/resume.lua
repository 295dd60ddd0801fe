-- resume: an operator says that a provider is all right: nothing pauses its pools, nothing learned lowers its limits.
-- ARGV     epoch, now ('' = server), pool...
-- Returns  how many of the pools were paused
-- Touches  pause:*, learned:*, wake
-- @use epoch
-- @use pool
-- @use wake

local failed = lost(ARGV[1])
if failed then return failed end
local now = clock(ARGV[2])
local paused = 0
for i = 3, #ARGV do
  if pool.paused(ARGV[i], now) > 0 then paused = paused + 1 end
  redis.call('DEL', key.pause(ARGV[i]))
  local settings = pool.settings(ARGV[i])
  for _, scope in ipairs(settings and settings.spec.scopes or {}) do learned.forget(scope.name) end
end
wake.push(now, 1000)
return paused
