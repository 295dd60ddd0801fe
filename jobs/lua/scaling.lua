-- scaling: what was last advised, so that advice does not flap and every process gives the same.
-- State
--   scaling   string: opaque to scripts (jobs/scaling.py writes it)
-- @use keys

local scaling = {}

function scaling.held() return redis.call('GET', key.SCALING) or '' end

-- Keeps what was advised on top of `before`; not where another process was quicker, whose advice is as new.
function scaling.hold(before, after)
  if scaling.held() == before then redis.call('SET', key.SCALING, after) end
end
