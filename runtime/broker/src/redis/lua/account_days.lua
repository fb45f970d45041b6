-- Looks up what a tenant's runs have spent.
--
-- asked    { the first day, the last day, how many days before today are kept }
-- returns  { day, { field, value, by turns }, by turns }, for each day on which something ran

local first, last, days_kept = unpack(asked)
local days = {}
for day = math.max(first, today() - days_kept), math.min(last, today()) do
  local fields = call('HGETALL', usage_key(day))
  if #fields > 0 then
    days[#days + 1] = day
    days[#days + 1] = fields
  end
end
return days
