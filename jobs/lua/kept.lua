-- kept: whether a job may overtake the one that a full window is kept for.
-- State: none of its own.
-- @use keys
-- @use lane
-- @use overtaking

local kept = {}
local heads = {}

local function head_of(id)
  if not heads[id] then
    local stored = redis.call('HGET', key.job(id), 'h')
    heads[id] = stored and cjson.decode(stored)
  end
  return heads[id]
end

-- The job (its head, as it was) of another lane that a window of the spec is kept free for, if this one may not overtake
-- it: it was overtaken enough, or this lane is as far ahead of it as it may be. In its own lane that job is overtaken by
-- whatever has its turn before it, or both would wait for ever.
function kept.from(spec, now, id, head)
  local w = overtaking.kept_from(spec, now, id, head.et, function(other)
    local big = head_of(other)
    return big and not lane.may_overtake(head, big)
  end)
  local big = w and head_of(w.big)
  if not big or (big.u == head.u and big.n == head.n) then return nil end
  return big
end
