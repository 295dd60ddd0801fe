-- age: simulated time has passed: every key that has an end comes so much nearer to it.
-- ARGV     ms
-- Returns  1
local passed = tonumber(ARGV[1])
for _, k in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', k)
  if left >= 0 then
    if left <= passed then
      redis.call('DEL', k)
    else
      redis.call('PEXPIRE', k, string.format('%.0f', left - passed))
    end
  end
end
return 1
