-- overtaking: a job at its turn that a full window refuses keeps that window: smaller ones may go ahead of it only until
-- they have taken as much from it as it needs.
-- State
--   window:<scope>   the places 15 to 17: the job, what it needs, what has overtaken it
-- @use window

local overtaking = {}

-- Keeps a window for `job`, unless it is kept already.
function overtaking.keep_for(w, job, tokens)
  if w.big then return end
  w.big, w.need, w.took = job, tokens, 0
  window.save(w)
end

-- The window is no longer kept for anybody.
function overtaking.free(w)
  w.big, w.need, w.took = nil, nil, nil
  window.save(w)
end

-- The window of the spec that is kept free for another job, if `tokens` of `job` may not overtake it any more; `forbidden`
-- (optional) is asked of that other job for a reason of the caller's.
function overtaking.kept_from(spec, now, job, tokens, forbidden)
  for _, scope in ipairs(spec.scopes) do
    local w = window.open(spec, scope, now)
    if w.big and w.big ~= job and (w.took + tokens > w.need or forbidden and forbidden(w.big)) then return w end
  end
  return nil
end

-- To be called for every job that took tokens: it ends its own keeping, or counts as having overtaken another.
function overtaking.overtook(spec, now, job, tokens)
  for _, scope in ipairs(spec.scopes) do
    local w = window.open(spec, scope, now)
    if w.big == job then
      overtaking.free(w)
    elseif w.big then
      w.took = w.took + tokens
      window.save(w)
    end
  end
end

-- The jobs that windows of the spec are kept free for: {window, job} each.
function overtaking.kept(spec, now)
  local kept = {}
  for _, scope in ipairs(spec.scopes) do
    local w = window.open(spec, scope, now)
    if w.big then kept[#kept + 1] = {w, w.big} end
  end
  return kept
end
