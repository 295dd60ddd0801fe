-- receipt: what one attempt has taken of the windows, until its outcome is known.
-- State
--   receipts         hash: receipt id -> JSON {a accounting, m mode, p span, n note, t taken (ms); with learned
--                    estimates o pool, u user, k most tokens, v variance; w = {{scope, slice, charged, in flight,
--                    tokens limit, requests limit, tokens left, requests left, all tokens, all requests ever taken}, ...}}
--   receipts:due     zset: receipt id -> ms by which its call has ended, whatever became of it
-- @use window

local receipt = {}
local RECEIPTS, RECEIPTS_DUE = 'receipts', 'receipts:due'

local ONE_WINDOW = '[%s,%d,%d,%d,%s,%s,%s,%s,%d,%d]'

local function text_of(n) return n and string.format('%d', n) or 'false' end

-- Takes what the attempt `id` may be charged, in all windows of the spec, and writes its receipt. Call it only where
-- window.refusal said nil, and once for one id.
-- input, output: estimated tokens; deadline: ms by which the call has ended in any case; note: text for receipt.note;
-- who: whose answers the expected tokens go by (learned.lua), nil for the pool's.
function receipt.take(spec, now, id, input, output, deadline, note, who)
  local expected, variance = learned.expected(spec, who, input, output)
  local charged, flying = expected, 0
  if spec.accounting == 'actual' then
    charged, flying = 0, expected
  elseif spec.accounting == 'anthropic' then
    charged, flying = input, expected - input
  end
  local taken = {}
  for i, scope in ipairs(spec.scopes) do
    local w = window.open(spec, scope, now)
    w.F, w.V = w.F + flying, w.V + variance
    w.C, w.D = w.C + expected, w.D + 1
    local slice = window.slice(w)
    window.charge(w, slice, charged, 1)
    local tokens_left, requests_left = window.left(w)
    taken[i] = string.format(ONE_WINDOW, cjson.encode(scope.name), slice, charged, flying, text_of(scope.tokens),
      text_of(scope.requests), text_of(tokens_left), text_of(requests_left), w.C, w.D)
  end
  -- JSON made by hand: this is on every job's way, and costs a fifth of cjson.encode of the same.
  local written = {string.format('{"a":"%s","m":"%s","p":%d,"t":%d,"w":[%s]', spec.accounting, spec.mode, spec.span, now,
    table.concat(taken, ','))}
  if note then written[#written + 1] = '"n":' .. cjson.encode(note) end
  if spec.estimates == 'learned' and spec.accounting ~= 'openai' then
    written[#written + 1] = string.format('"o":%s,"v":%d,"k":%d', cjson.encode(spec.pool), variance,
      input + output - charged)
    if who then written[#written + 1] = '"u":' .. cjson.encode(who) end
  end
  redis.call('HSET', RECEIPTS, id, table.concat(written, ',') .. '}')
  redis.call('ZADD', RECEIPTS_DUE, int(deadline), id)
end

-- What the taker of a receipt that is not yet settled has noted with it, if anything.
function receipt.note(id)
  local stored = redis.call('HGET', RECEIPTS, id)
  return stored and cjson.decode(stored).n or nil
end

-- What the answer to an attempt says of its windows, before the attempt is settled. heard: {lt, lr limits; kt, kr what
-- remains; st, sr ms until all is back (tokens, requests; nil where the provider says nothing); refused 'tokens' or
-- 'requests' that a 429 said were lacking; large: the most tokens a request may have}.
-- Headers tell of the narrowest limit there is: the last scope's.
function receipt.hear(now, id, heard)
  local stored = redis.call('HGET', RECEIPTS, id)
  if not stored then return end
  local written = cjson.decode(stored)
  local taken = written.w[#written.w]
  local scope = {name = taken[1], tokens = taken[5] or nil, requests = taken[6] or nil}
  if heard.lt or heard.lr then learned.named(scope, heard.lt, heard.lr) end
  if heard.large then learned.named(scope, heard.large) end
  -- What remained is as old as its answer: it is compared with what we thought remained when that request was sent, less
  -- what others have taken since, who may have reached the provider first.
  local w = window.open({span = written.p, mode = written.m}, scope, now)
  local function less(left, remained, since)
    return left and remained and math.max(0, left - since - remained) or nil
  end
  learned.had_less(scope, less(taken[7], heard.kt, w.C - taken[9]), now + (heard.st or 60000),
    less(taken[8], heard.kr, w.D - taken[10]), now + (heard.sr or 60000))
  if heard.refused and written.m == 'mirror' then
    -- Its bucket holds less than ours did: that may be a matter of arrival, and is put right. Only another refusal soon
    -- after says that the limit is lower. Its own tokens come back when it is settled.
    if heard.refused == 'tokens' then
      w.l = math.min(w.l, ((heard.kt or 0) - (w.C - taken[9]) - taken[3]) * 1000)
    else
      w.q = math.min(w.q, ((heard.kr or 0) - (w.D - taken[10])) * 1000)
    end
    window.save(w)
    if learned.emptied(scope, heard.refused, written.t, now) then learned.refused(scope, heard.refused, written.t, now) end
  elseif heard.refused then
    learned.refused(scope, heard.refused, written.t, now)
  end
  window.forget()
end

-- Settles the receipt of an attempt, once. `how`:
--   charged      a complete answer: input and output tokens as the provider told them
--   kept         an answer without usage that counts all the same: the most it can have taken is charged
--   tokens_back  refused by the provider: the request counts, its tokens do not
--   given_back   never sent: as if it had not been
-- An outcome nobody knows is not settled: the receipt stays until its deadline, then receipt.sweep keeps it.
function receipt.settle(now, id, how, input, output)
  local stored = redis.call('HGET', RECEIPTS, id)
  if not stored then return false end
  local written = cjson.decode(stored)
  for _, taken in ipairs(written.w) do
    local name, slice, charged, flying = taken[1], taken[2], taken[3], taken[4]
    local scope = {name = name, tokens = taken[5] or nil, requests = taken[6] or nil}
    local w = window.open({span = written.p, mode = written.m}, scope, now)
    local current = window.slice(w)
    w.F, w.V = math.max(0, w.F - flying), math.max(0, w.V - (written.v or 0))
    if how == 'charged' then
      local late = 0
      if written.a == 'actual' then
        late = input + output
      elseif written.a == 'anthropic' then
        late = output
      end
      window.charge(w, current, late, 0)
      if written.o then
        learned.lasted(name, now - written.t)
        if w.limit and w.mode == 'strict' and w.T > w.limit and w.T - late <= w.limit then
          learned.passed(name, now, w.known.z)
        end
      end
    elseif how == 'kept' then
      window.charge(w, current, written.k or flying, 0)
    elseif how == 'tokens_back' then
      window.charge(w, slice, -charged, 0)
    else
      window.charge(w, slice, -charged, -1)
    end
  end
  if how == 'charged' and written.o then learned.answered(written.o, written.u, output) end
  redis.call('HDEL', RECEIPTS, id)
  redis.call('ZREM', RECEIPTS_DUE, id)
  return true
end

-- Charges the receipts whose call has certainly ended, at most `most`: their outcome never came.
function receipt.sweep(now, most)
  local due = redis.call('ZRANGEBYSCORE', RECEIPTS_DUE, '-inf', int(now), 'LIMIT', 0, most)
  for _, id in ipairs(due) do
    if not receipt.settle(now, id, 'kept') then redis.call('ZREM', RECEIPTS_DUE, id) end
  end
  return #due
end
