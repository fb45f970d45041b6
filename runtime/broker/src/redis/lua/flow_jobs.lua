-- Looks up the jobs of a flow.
--
-- asked    { the flow's id }
-- returns  of each job that is kept: { its record, as in records.lua, without payload and output, what stands of it in `flow:<id>` }

local function flow_jobs()
  local all, found = call('HGETALL', flows.key(asked[1])), {}
  for n = 1, #all, 2 do
    found[#found + 1] = { bare_record_of(all[n]), all[n + 1] }
  end
  return found
end
