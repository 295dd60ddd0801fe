-- epoch: refuses to work on a Redis that has lost what this process knows to have been there.
-- State
--   epoch   string, made once per set of data
-- @use keys

-- Every script calls this first. `known` is '' for a caller that remembers none.
local function lost(known)
  if known == '' or redis.call('GET', key.EPOCH) == known then return nil end
  return redis.error_reply('EPOCH this Redis does not hold the data that was here before')
end
