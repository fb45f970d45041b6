-- Lists the daemons that were heard of lately; see daemon.lua.
--
-- returns  { the time, of each its id, when it was heard of and what it has told, by turns }

local function daemon_list()
  local seen, reports = PREFIX .. 'daemons', PREFIX .. 'daemon_reports'
  local found = call('ZRANGE', seen, '(' .. score(now - DAEMON_LAPSE), '+inf', 'BYSCORE', 'WITHSCORES')
  local ids, list = {}, {}
  for n = 1, #found, 2 do
    ids[#ids + 1] = found[n]
  end
  local told = #ids > 0 and call('HMGET', reports, unpack(ids)) or {}
  for n = 1, #ids do
    if told[n] then
      list[#list + 1], list[#list + 2], list[#list + 3] = ids[n], tonumber(found[2 * n]), told[n]
    end
  end
  return { now, list }
end
