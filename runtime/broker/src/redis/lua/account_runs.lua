-- The account of single runs, for a batch that isn't recorded as it was sent.

-- Parts of an account as `Account::PARTS` has them: how runs ended, and what they spent.
local ENDS = { 'succeeded', 'retried', 'released', 'dead', 'cancelled' } -- as settlements are numbered
local SPENT = {
  'fuel', 'cpu_us', 'wall_us', 'memory_high', 'memory_low', 'bytes_in', 'bytes_out', 'host_calls',
}

-- What runs come to together, as `record_spent` takes it. Of each: its plugin, how it ended, and as text what it spent,
-- in the order above.
local function spent_by(runs)
  local spent = {}
  local places = {} -- by field: where its amount is
  local function spend(field, amount)
    local place = places[field]
    if place then
      spent[place] = total(spent[place], amount)
    else
      local n = #spent
      spent[n + 1], spent[n + 2], places[field] = field, amount, n + 2
    end
  end
  for _, run in ipairs(runs) do
    local plugin, what, numbers = unpack(run)
    spend(plugin .. ':' .. ENDS[what], '1')
    local n = 0
    for number in string.gmatch(numbers, '%d+') do
      n = n + 1
      if number ~= '0' then
        spend(plugin .. ':' .. SPENT[n], number)
      end
      if n == 1 then
        spend('fuel', number)
        spend('minute_fuel', number)
      end
    end
  end
  return spent
end
