-- What a tenant's runs spend on a day: an account is kept under the name of its plugin, in the hash that days.lua tells of.
-- It is made of numbers of 64 bits, the highest byte first, in the order of `Account::PARTS`: how runs ended, and what they
-- spent.
--
-- What one call settles is summed first and added once, whatever the number of its jobs.
local ENDS = 5 -- so many of the numbers say how runs ended; what follows is what they spent, the fuel first
local FUEL_AT = 8 * ENDS + 1

-- Lua's numbers are exact to 53 bits, so those are added in halves. Past the greatest one they stay there.
local HALF_MAX = 2 ^ 32
local MOST_HIGH = 2 ^ 31 - 1

-- The sums of as many numbers as both have.
local function add_numbers(bytes, more)
  local format = '>' .. string.rep('I4', #bytes / 4)
  local sums, others = { unpack_bytes(format, bytes) }, { unpack_bytes(format, more) }
  for n = 2, #bytes / 4, 2 do
    local high, low = sums[n - 1] + others[n - 1], sums[n] + others[n]
    if low >= HALF_MAX then
      high, low = high + 1, low - HALF_MAX
    end
    if high > MOST_HIGH then
      high, low = MOST_HIGH, HALF_MAX - 1
    end
    sums[n - 1], sums[n] = high, low
  end
  return pack_bytes(format, unpack(sums, 1, #bytes / 4))
end

-- Adds to today's accounts: plugin and account by turns, no plugin twice.
local function record_spent(spent, days_kept)
  if #spent == 0 then
    return
  end
  local plugins = {}
  for n = 1, #spent, 2 do
    plugins[#plugins + 1] = spent[n]
  end
  local key = usage_key(today())
  local stored = call('HMGET', key, OF_ALL, unpack(plugins))
  local fuel, of_minute, minute = fuel_of_all(stored[1])
  if minute ~= this_minute() then
    of_minute = NO_FUEL
  end
  fuel = fuel .. of_minute
  local sums = {}
  for n, plugin in ipairs(plugins) do
    local more, so_far = spent[2 * n], stored[n + 1]
    sums[2 * n - 1], sums[2 * n] = plugin, so_far and add_numbers(so_far, more) or more
    local fuel_more = sub(more, FUEL_AT, FUEL_AT + 7)
    fuel = add_numbers(fuel, fuel_more .. fuel_more)
  end
  call('HSET', key, OF_ALL, fuel .. pack_bytes('>I8', this_minute()), unpack(sums))
  if not stored[1] then
    call('EXPIRE', key, (days_kept + 1) * DAY / 1000)
  end
end
