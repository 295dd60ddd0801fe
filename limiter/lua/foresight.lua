-- foresight: about when windows will have taken so many tokens more, one request after another.
-- State: none of its own.
-- @use window

local foresight = {}

-- Whether what was admitted at once leaves at once, a span later, and so on, since nothing is in flight.
function foresight.in_rounds(w) return w.mode == 'strict' and w.F == 0 end

-- ms until `need` of the tokens that are charged in some windows have left them, the first first; nil if there are not so
-- many.
local function until_left(windows, need)
  local chunks = {}
  for k, w in ipairs(windows) do chunks[k] = {w = w, i = 0, left = w.T, values = {}} end
  while true do
    local first = nil
    for _, chunk in ipairs(chunks) do
      if chunk.left > 0 then
        chunk.ms = window.leaves_in(chunk.w, chunk.i)
        if not first or chunk.ms < first.ms then first = chunk end
      end
    end
    if not first then return nil end
    local place = first.i % 16
    if place == 0 then first.values = window.some_slices(first.w, first.i) end
    local tokens = tonumber(first.values[2 * place + 1]) or first.w.t
    first.i, first.left, need = first.i + 1, first.left - tokens, need - tokens
    if need <= 0 then return first.ms end
  end
end

-- ms until some windows, {{w, round ms, rate in tokens a ms}, ...}, have taken so many tokens more: in rounds, where all
-- are; else each at its even pace, a share of them by its rate.
function foresight.until_taken(limits, tokens)
  local windows, rooms, limit, rate, round, even = {}, {}, 0, 0, 0, false
  for k, one in ipairs(limits) do
    local w = one.w
    windows[k], rooms[k] = w, w.mode == 'strict' and w.limit - w.T - w.F or w.l / 1000 - w.F
    limit, rate, round = limit + w.limit, rate + one.rate, math.max(round, one.round)
    even = even or not foresight.in_rounds(w)
  end
  local longest, need = 0, tokens
  for k, one in ipairs(limits) do
    need = need - rooms[k]
    longest = math.max(longest, (tokens * one.rate / rate - rooms[k]) / one.w.limit * one.round)
  end
  if even or need <= 0 then return even and longest or 0 end
  local rounds = math.ceil(need / limit) - 1
  return rounds * round + (until_left(windows, need - rounds * limit) or round)
end
