-- What a tenant's runs spend in a day: a HASH at `usage:<day>`, so many days after 1970-01-01, with the numbers of each
-- plugin in `<plugin>:<part>`, and those that days.lua tells of.
--
-- What one call settles is summed first and added once, whatever the number of its jobs. Numbers have 64 bits, so they
-- go as text; past the greatest one they stay there.
local MOST = '9223372036854775807'

-- Parts of an account as `Account::PARTS` has them: how runs ended, and what they spent.
local ENDS = { 'succeeded', 'retried', 'released', 'dead', 'cancelled' } -- as settlements are numbered
local SPENT = {
  'fuel', 'cpu_us', 'wall_us', 'memory_high', 'memory_low', 'bytes_in', 'bytes_out', 'host_calls',
}

local function total(a, b)
  return add(a, b) or MOST
end

local spent_fields = {} -- in order of first use
local spent = {} -- by field: how much

local function spend(field, amount)
  local before = spent[field]
  if not before then
    spent_fields[#spent_fields + 1] = field
  end
  spent[field] = before and total(before, amount) or amount
end

local function spend_fuel(amount)
  spend('fuel', amount)
  spend('minute_fuel', amount)
end

-- One run, with what it spent in the order above.
local function spend_run(plugin, what, numbers)
  spend(plugin .. ':' .. ENDS[what], '1')
  local n = 0
  for number in string.gmatch(numbers, '%d+') do
    n = n + 1
    if number ~= '0' then
      spend(plugin .. ':' .. SPENT[n], number)
    end
    if n == 1 then
      spend_fuel(number)
    end
  end
end

local function flush_spent(days_kept)
  if #spent_fields == 0 then
    return
  end
  -- Also where no fuel was spent, so that what is there is always that of the minute.
  spend_fuel('0')
  local key = usage_key(today())
  local minute = this_minute()
  local before
  for first = 1, #spent_fields, SLICE / 2 do
    local last = math.min(first + SLICE / 2 - 1, #spent_fields)
    local stored = call('HMGET', key, 'minute', unpack(spent_fields, first, last))
    local sums = { 'minute', minute }
    if first == 1 then
      before = stored[1]
    end
    for n = first, last do
      local field = spent_fields[n]
      local so_far = stored[n - first + 2] or '0'
      if field == 'minute_fuel' and before ~= minute then
        so_far = '0'
      end
      sums[#sums + 1] = field
      sums[#sums + 1] = total(so_far, spent[field])
    end
    call('HSET', key, unpack(sums))
  end
  if not before then
    call('EXPIRE', key, (days_kept + 1) * DAY / 1000)
  end
end
