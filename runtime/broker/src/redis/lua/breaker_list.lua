-- Lists breakers; see breaker.lua.
--
-- asked    { the name of one, or false for all }
-- returns  { the time, of each its name, and version and record, by turns }

local function breaker_list()
  local name = unpack(asked)
  local records = PREFIX .. 'breakers'
  if not name then
    return { now, call('HGETALL', records) }
  end
  local stored = call('HGET', records, name)
  return { now, stored and { name, stored } or {} }
end
