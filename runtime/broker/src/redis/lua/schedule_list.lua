-- Lists schedules; see schedule.lua.
--
-- asked    { SCHEDULES_DUE, SCHEDULE_NAMED or SCHEDULES_AFTER, the name or false, how many at most }
-- returns  { the time, { { name, when it is due, version and record } of each } }

local function schedule_list()
  local what, name, most = unpack(asked)
  local by_due, records = PREFIX .. 'schedules', PREFIX .. 'schedules:records'
  local names, due = {}, {}
  if what == SCHEDULE_NAMED then
    names[1], due[name] = name, call('ZSCORE', by_due, name)
  else
    local last = what == SCHEDULES_DUE and now or '+inf'
    local found = call('ZRANGE', by_due, '-inf', last, 'BYSCORE', 'WITHSCORES')
    for n = 1, #found, 2 do
      if what == SCHEDULES_DUE or not name or found[n] > name then
        names[#names + 1], due[found[n]] = found[n], found[n + 1]
      end
    end
    if what == SCHEDULES_AFTER then
      table.sort(names)
    end
  end
  local schedules = {}
  for n = 1, min(#names, most) do
    local stored = call('HGET', records, names[n])
    if stored and due[names[n]] then
      schedules[#schedules + 1] = { names[n], due[names[n]], stored }
    end
  end
  return { now, schedules }
end
