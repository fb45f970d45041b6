-- What a tenant's runs spend in a day: a HASH at `usage:<day>`, so many days after 1970-01-01, with the numbers of each
-- plugin in `<plugin>:<part>`, and those that days.lua tells of.
--
-- What one call settles is summed first and added once, whatever the number of its jobs. Numbers have 64 bits, so they
-- go as text; past the greatest one they stay there.
local MOST = '9223372036854775807'

-- Lua's numbers are exact for so many digits, and for a sum of two such numbers as well. Longer ones are added in halves.
local LOW_DIGITS = 15
local LOW_MAX = 10 ^ LOW_DIGITS
local MOST_HIGH, MOST_LOW = 9223, 372036854775807

local function halves(text)
  return tonumber(sub(text, 1, -LOW_DIGITS - 1)) or 0, tonumber(sub(text, -LOW_DIGITS))
end

local function total(a, b)
  if #a <= LOW_DIGITS and #b <= LOW_DIGITS then
    return score(a + b)
  end
  local a_high, a_low = halves(a)
  local b_high, b_low = halves(b)
  local high, low = a_high + b_high, a_low + b_low
  if low >= LOW_MAX then
    high, low = high + 1, low - LOW_MAX
  end
  if high > MOST_HIGH or (high == MOST_HIGH and low > MOST_LOW) then
    return MOST
  end
  return high > 0 and string.format('%d%015d', high, low) or score(low)
end

-- Adds to today's numbers: field and amount by turns, no field twice. Part of it are `fuel` and `minute_fuel`, also where
-- no fuel was spent, so that what is there is always that of the minute.
local function record_spent(spent, days_kept)
  if #spent == 0 then
    return
  end
  local key = usage_key(today())
  local minute = this_minute()
  local before
  for first = 1, #spent, SLICE do
    local last = math.min(first + SLICE - 1, #spent)
    local fields = {}
    for n = first, last, 2 do
      fields[#fields + 1] = spent[n]
    end
    local stored = call('HMGET', key, 'minute', unpack(fields))
    if first == 1 then
      before = stored[1]
    end
    local sums = { 'minute', minute }
    for n = 1, #fields do
      local so_far = stored[n + 1] or '0'
      if fields[n] == 'minute_fuel' and before ~= minute then
        so_far = '0'
      end
      sums[2 * n + 1] = fields[n]
      sums[2 * n + 2] = total(so_far, spent[first + 2 * n - 1])
    end
    call('HSET', key, unpack(sums))
  end
  if not before then
    call('EXPIRE', key, (days_kept + 1) * DAY / 1000)
  end
end
