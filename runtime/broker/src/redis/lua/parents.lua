-- Looks up what the jobs have come to that a job comes after.
--
-- keys[2]  `job:<id>`
-- asked    { how many bytes of output at most, all together }
-- returns  of each of them: { its name, its record, as in records.lua, without payload and output, its output or nil }

local function parents()
  local left = asked[1]
  local id = id_of(keys[FIXED_KEYS + 1])
  local job = reads.try('GET', JOB_KEY .. id)
  local mark = job and job ~= reads.ALIEN and jobs.read(job) and jobs.mark(job)
  local node = mark and call('HGET', flows.key(sub(mark, 1, 26)), id)
  local found = {}
  node = node and unpack_values(node) or {}
  for n = 3, #node, 3 do
    local record, output = bare_record_of(node[n])
    if output and #output <= left then
      left = left - #output
    else
      output = false
    end
    found[#found + 1] = { node[n + 1], record, output }
  end
  return found
end
