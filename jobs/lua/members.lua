-- members: keeps the indexes of records short whose records expire by themselves.
-- State: none of its own; an index is a sorted set of ids, its owner's.

local members = {}

-- Forgets members of an index whose record is gone, a few at once: of the oldest, and of a stretch that jumps about with `turn`
-- (a number that grows), since a record that is kept for longer must not hide those behind it.
function members.tidy(index, of, turn)
  local length = redis.call('ZCARD', index)
  if length == 0 then return end
  local place = turn * 7919 % length
  local looked = redis.call('ZRANGE', index, 0, 3)
  for _, id in ipairs(redis.call('ZRANGE', index, int(place), int(place + 3))) do looked[#looked + 1] = id end
  local all = {}
  for i, id in ipairs(looked) do all[i] = of(id) end
  if redis.call('EXISTS', unpack(all)) == #all then return end
  for i, id in ipairs(looked) do
    if redis.call('EXISTS', all[i]) == 0 then redis.call('ZREM', index, id) end
  end
end
