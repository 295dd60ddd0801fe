-- arrivals: the mean of as many samples as tell one rate: chance is averaged out, and a change is seen at once. A window that
-- adapts (A. Bifet and R. Gavalda, "Learning from Time-Changing Data with Adaptive Windowing", SIAM SDM 2007), with one place
-- to cut it. Keeps no state: whoever samples keeps the text.

local arrivals = {}
-- How many samples at the most make a mean.
local SAMPLES = 24
-- A rate has changed when its last RECENT samples differ from the older ones by CHANGED as a factor, and by ERRORS standard
-- errors: by more than what arrives at random does.
local RECENT, CHANGED, ERRORS = 4, 4 / 3, 3

-- The mean of samples[first] to samples[last], and the sum of what they are off by, squared.
local function spread(samples, first, last)
  local sum, squares = 0, 0
  for i = first, last do sum = sum + samples[i] end
  local mean = sum / (last - first + 1)
  for i = first, last do squares = squares + (samples[i] - mean) ^ 2 end
  return mean, squares
end

local function changed(samples)
  local older = #samples - RECENT
  if older < 1 then return false end
  local before, off_before = spread(samples, 1, older)
  local now, off_now = spread(samples, older + 1, #samples)
  if now <= before * CHANGED and before <= now * CHANGED then return false end
  local variance = (off_before + off_now) / (#samples - 2)
  return math.abs(now - before) > ERRORS * math.sqrt(variance * (1 / RECENT + 1 / older))
end

-- Samples, as text, with one more, which counts so many times, and without those from before a change in the rate; and
-- their mean.
function arrivals.sampled(before, sample, times)
  local samples = {}
  for each in string.gmatch(before or '', '[^,]+') do samples[#samples + 1] = tonumber(each) end
  for _ = 1, math.min(times, SAMPLES) do samples[#samples + 1] = sample end
  local first = changed(samples) and #samples - RECENT + 1 or math.max(1, #samples - SAMPLES + 1)
  local texts = {}
  for i = first, #samples do texts[#texts + 1] = int(samples[i]) end
  return table.concat(texts, ','), (spread(samples, first, #samples))
end
