-- overtake: one step of overtaking.lua for each call. For tests only.
-- ARGV     now ('' = server), step ('keep_for', 'overtook', 'free', 'kept_from'), window spec as JSON, job, tokens
-- Returns  the key of the window the job may not overtake in ('kept_from'; '' = none), else ''
-- Touches  window:<scope>
-- @use overtaking

local now = clock(ARGV[1])
local step, spec, job, tokens = ARGV[2], cjson.decode(ARGV[3]), ARGV[4], tonumber(ARGV[5])
if step == 'keep_for' then
  local _, _, full = window.refusal(spec, now, tokens)
  for _, w in ipairs(full) do overtaking.keep_for(w, job, tokens) end
elseif step == 'overtook' then
  overtaking.overtook(spec, now, job, tokens)
elseif step == 'free' then
  for _, kept in ipairs(overtaking.kept(spec, now)) do overtaking.free(kept[1]) end
else
  local w = overtaking.kept_from(spec, now, job, tokens)
  if w then return w.key end
end
return ''
