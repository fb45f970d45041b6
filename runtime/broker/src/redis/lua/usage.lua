-- Looks up what a tenant's runs have spent.
--
-- asked    { the first day, the last day, how many days before today are kept }
-- returns  { day, { field, value, by turns }, by turns }, for each day on which something ran

local function usage()
  local first, last, days_kept = unpack(asked)
  local days = {}
  local today = accounts.today()
  for day = max(first, today - days_kept), min(last, today) do
    local fields = call('HGETALL', accounts.key(day))
    if #fields > 0 then
      days[#days + 1] = day
      days[#days + 1] = fields
    end
  end
  return days
end
