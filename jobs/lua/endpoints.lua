-- endpoints: where a user wants to hear of the ends of his jobs, and what is signed with which secret.
-- State
--   endpoint:<id>          hash: user, url, types (space separated), name, created, updated (ms), disabled ('' = in use, or why
--                          not), secret, old (encrypted; old until `until`, ms), hint (the secret's last characters)
--   endpoints:<user>       zset of his endpoints' ids, all scores 0: in the order in which they were made
--   subscriptions:<user>   hash: endpoint in use -> its types, with a space before and behind each
--   signing:<user>         hash: secret, old, until, for what goes to a job's own webhook_url
-- @use clock
-- @use keys

local endpoints = {}
endpoints.MOST = 20

-- The user's endpoints in use that want to hear of this, in the order in which they were made.
function endpoints.wanting(who, kind)
  local found = {}
  local all = redis.call('HGETALL', key.subscriptions(who))
  for i = 1, #all, 2 do
    if string.find(all[i + 1], ' ' .. kind .. ' ', 1, true) then found[#found + 1] = all[i] end
  end
  table.sort(found)
  return found
end

-- Whether this is an endpoint that its user or its receiver (410) has put out of use.
function endpoints.disabled(id)
  local why = redis.call('HGET', key.endpoint(id), 'disabled')
  return why and why ~= ''
end

function endpoints.subscribe(id)
  local v = redis.call('HMGET', key.endpoint(id), 'user', 'types', 'disabled')
  if v[3] == '' then
    redis.call('HSET', key.subscriptions(v[1]), id, ' ' .. v[2] .. ' ')
  else
    redis.call('HDEL', key.subscriptions(v[1]), id)
  end
end

function endpoints.disable(id, why, now)
  if redis.call('EXISTS', key.endpoint(id)) == 0 then return end
  redis.call('HSET', key.endpoint(id), 'disabled', why, 'updated', int(now))
  endpoints.subscribe(id)
end

-- Puts a new secret in the place of the present one, which stays good for `overlap` ms if that is not 0.
function endpoints.rotate(k, secret, hint, overlap, now)
  local present = redis.call('HGET', k, 'secret')
  if overlap > 0 and present then
    redis.call('HSET', k, 'old', present, 'until', int(now + overlap))
  else
    redis.call('HDEL', k, 'old', 'until')
  end
  redis.call('HSET', k, 'secret', secret, 'hint', hint, 'updated', int(now))
end

-- The secrets that sign now: {secret, old}, '' for what is not there.
function endpoints.secrets(k, now)
  local v = redis.call('HMGET', k, 'secret', 'old', 'until')
  return v[1] or '', v[2] and tonumber(v[3]) > now and v[2] or ''
end

-- An endpoint's fields, or nil where there is none of this user's.
function endpoints.of(who, id)
  local k = key.endpoint(id)
  if redis.call('HGET', k, 'user') ~= who then return nil end
  return redis.call('HGETALL', k)
end
