-- Days are counted from 1970-01-01, in UTC, and minutes as well. What a tenant's runs spend on a day is in a HASH at
-- `usage:<day>`. Beside the numbers of its plugins (account.lua) it has, for the tenant's fuel quota: `fuel`, what all of
-- them spent; `minute`, the latest minute in which runs were settled; and `minute_fuel`, what was spent in that one.
local DAY, MINUTE = 24 * 60 * 60 * 1000, 60 * 1000

local function usage_key(day)
  return PREFIX .. 'usage:' .. score(day)
end

local function today()
  return math.floor(now / DAY)
end

local function this_minute()
  return score(math.floor(now / MINUTE))
end
