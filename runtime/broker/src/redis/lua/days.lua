-- Days are counted from 1970-01-01, in UTC, and minutes as well. What a tenant's runs spend on a day is in a HASH at
-- `usage:<day>`. Beside the accounts of its plugins (account.lua) it has, for the tenant's fuel quota, three numbers of 64
-- bits: what all of them spent, what was spent in the latest minute in which runs were settled, and which that is.
local DAY, MINUTE = 24 * 60 * 60 * 1000, 60 * 1000
local OF_ALL = ':' -- no plugin has such a name
local NO_FUEL = string.rep('\0', 8)

local function usage_key(day)
  return PREFIX .. 'usage:' .. score(day)
end

local function today()
  return math.floor(now / DAY)
end

local function this_minute()
  return math.floor(now / MINUTE)
end

-- The three numbers, the fuel as bytes.
local function fuel_of_all(stored)
  if not stored then
    return NO_FUEL, NO_FUEL, 0
  end
  return unpack_bytes('>c8c8I8', stored)
end
