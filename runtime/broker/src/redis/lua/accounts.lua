-- What a tenant's runs spend on a day: a HASH at `usage:<day>`, of an account by the name of each plugin. Days are counted
-- from 1970-01-01, in UTC, and minutes as well.
--
-- An account is made of numbers of 64 bits, the highest byte first, in the order of `Account::PARTS`: how runs ended, and
-- what they spent. Beside the accounts there are, for the tenant's fuel quota, three numbers of 64 bits at `OF_ALL`: what
-- all plugins spent, what was spent in the latest minute in which runs were settled, and which that is.
--
-- What one call settles is summed first and added once, whatever the number of its jobs.

local accounts = {}

do
  local DAY, MINUTE = 24 * 60 * 60 * 1000, 60 * 1000
  local NO_FUEL = string.rep('\0', 8)
  local FUEL_AT = 8 * ENDS + 1 -- where the fuel stands in an account: behind how runs ended

  -- Lua's numbers are exact to 53 bits, so greater ones are added in halves. Past the greatest one they stay there.
  local EXACT_MAX = 2 ^ 53
  local HALF_MAX = 2 ^ 32
  local MOST_HIGH = 2 ^ 31 - 1

  local ACCOUNT = '>' .. string.rep('I8', ACCOUNT_PARTS)
  local TWO_ACCOUNTS = '>' .. string.rep('I8', 2 * ACCOUNT_PARTS)

  local function add_in_halves(bytes, more)
    local count = #more / 4
    local halves = '>' .. string.rep('I4', count)
    local sums, others = { unpack_bytes(halves, bytes) }, { unpack_bytes(halves, more) }
    for n = 2, count, 2 do
      local high, low = sums[n - 1] + others[n - 1], sums[n] + others[n]
      if low >= HALF_MAX then
        high, low = high + 1, low - HALF_MAX
      end
      if high > MOST_HIGH then
        high, low = MOST_HIGH, HALF_MAX - 1
      end
      sums[n - 1], sums[n] = high, low
    end
    return pack_bytes(halves, unpack(sums, 1, count))
  end

  -- An account of these numbers; nothing if one of them may not be exact.
  local function pack_exact(...)
    return max(...) < EXACT_MAX and pack_bytes(ACCOUNT, ...)
  end

  -- The sums of two accounts of the same length.
  local function sum(bytes, more)
    local is_whole = #more == 8 * ACCOUNT_PARTS
    return is_whole and pack_exact(sums_of(unpack_bytes(TWO_ACCOUNTS, bytes .. more))) or add_in_halves(bytes, more)
  end

  -- The fuel of the day and of the minute, with what was spent since; all as bytes.
  local function add_fuel(fuel, more)
    local day, minute, spent = unpack_bytes('>I8I8I8', fuel .. more)
    if max(day, minute) + spent < EXACT_MAX then
      return pack_bytes('>I8I8', day + spent, minute + spent)
    end
    return add_in_halves(fuel, more .. more)
  end

  function accounts.key(day)
    return PREFIX .. 'usage:' .. score(day)
  end

  function accounts.today()
    return floor(now / DAY)
  end

  local function this_minute()
    return floor(now / MINUTE)
  end

  -- What all plugins have spent today and what in this minute, as bytes. What is no such entry counts as none.
  local function fuel_of_all(stored)
    if not stored or #stored ~= 24 then
      return NO_FUEL, NO_FUEL
    end
    local of_day, of_minute, minute = unpack_bytes('>c8c8I8', stored)
    return of_day, minute == this_minute() and of_minute or NO_FUEL
  end

  -- The fuel spent in this minute and today.
  function accounts.fuel_spent()
    local of_day, of_minute = fuel_of_all(call('HGET', accounts.key(accounts.today()), OF_ALL))
    return of_minute, of_day
  end

  -- What runs come to together: plugin and account by turns. Of each run: its plugin, how it ended, and what it spent.
  function accounts.of_runs(list)
    local spent = {}
    local places = {} -- by plugin: where its account is
    for _, run in ipairs(list) do
      local plugin, what, numbers = run[1], run[2], run[3]
      local place = PLACE_OF_END[what]
      local account = string.rep('\0', 8 * place - 1) .. '\1' .. string.rep('\0', 8 * (ENDS - place)) .. numbers
      if places[plugin] then
        spent[places[plugin]] = sum(spent[places[plugin]], account)
      else
        local n = #spent
        spent[n + 1], spent[n + 2], places[plugin] = plugin, account, n + 2
      end
    end
    return spent
  end

  -- Adds to today's accounts: plugin and account by turns, no plugin twice. One that has another length than this version
  -- writes is another version's, and stays as it is.
  function accounts.add(spent, days_kept)
    local count = #spent / 2
    if count == 0 then
      return
    end
    local key = accounts.key(accounts.today())
    local fields = { OF_ALL }
    for n = 1, count do
      fields[n + 1] = spent[2 * n - 1]
    end
    local stored = call('HMGET', key, unpack(fields))
    local of_day, of_minute = fuel_of_all(stored[1])
    local fuel = of_day .. of_minute
    local values = writes.list('HSET', key)
    for n = 1, count do
      local more, so_far = spent[2 * n], stored[n + 1]
      if not so_far or #so_far == #more then
        local v = #values
        values[v + 1], values[v + 2] = spent[2 * n - 1], so_far and sum(so_far, more) or more
      end
      fuel = add_fuel(fuel, sub(more, FUEL_AT, FUEL_AT + 7))
    end
    local v = #values
    values[v + 1], values[v + 2] = OF_ALL, fuel .. pack_bytes('>I8', this_minute())
    if not stored[1] then
      writes.value('EXPIRE', key, (days_kept + 1) * DAY / 1000)
    end
    writes.knows(key)
  end
end
