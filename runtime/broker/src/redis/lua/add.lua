-- Adds two decimal integers of 64 bits, given as text: Lua's numbers are exact only up to 2^53, and INCRBY can't be
-- asked whether it would work.
--
-- Returns nil if one is not written as a number is printed (one `-` at most, no leading zero), or if the sum leaves
-- the range.
local add

do
  local HALF = 10 ^ 9 -- a number is split as high * HALF + low, with both of its sign

  local function split(text)
    local sign, digits = string.match(text, '^(%-?)([1-9]%d*)$')
    if not digits then
      return text == '0' and 0 or nil, 0
    end
    if #digits > 19 then
      return nil
    end
    local high, low = tonumber(sub(digits, 1, -10)) or 0, tonumber(sub(digits, -9))
    if sign == '-' then
      return -high, -low
    end
    return high, low
  end

  local function is_in_range(high, low)
    local most = 9223372036
    if high > 0 or low > 0 then
      return high < most or (high == most and low <= 854775807)
    end
    return high > -most or (high == -most and low >= -854775808)
  end

  function add(a, b)
    local a_high, a_low = split(a)
    local b_high, b_low = split(b)
    if not a_high or not b_high or not is_in_range(a_high, a_low) then
      return nil
    end
    -- The sum, with both halves brought to one sign, and then the low one back below HALF.
    local high, low = a_high + b_high, a_low + b_low
    if high > 0 and low < 0 then
      high, low = high - 1, low + HALF
    elseif high < 0 and low > 0 then
      high, low = high + 1, low - HALF
    end
    if low >= HALF then
      high, low = high + 1, low - HALF
    elseif low <= -HALF then
      high, low = high - 1, low + HALF
    end
    if not is_in_range(high, low) then
      return nil
    end
    if high == 0 then
      return string.format('%.0f', low)
    end
    return string.format('%.0f%09.0f', high, math.abs(low))
  end
end
