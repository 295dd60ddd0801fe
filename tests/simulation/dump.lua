-- dump: everything there is, for the simulation's audits.
-- ARGV     '1' to tell how long keys have to live
-- Returns  JSON {key: [type, ms to live or -1, value]}: hashes and sorted sets as name and value after each other
local everything = {}
for _, k in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', k).ok, nil
  if kind == 'string' then
    value = redis.call('GET', k)
  elseif kind == 'hash' then
    value = redis.call('HGETALL', k)
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', k, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then
    value = redis.call('SMEMBERS', k)
  elseif kind == 'list' then
    value = redis.call('LRANGE', k, 0, -1)
  else
    value = redis.call('XRANGE', k, '-', '+')
  end
  everything[k] = {kind, ARGV[1] == '1' and redis.call('PTTL', k) or -1, value}
end
return cjson.encode(everything)
