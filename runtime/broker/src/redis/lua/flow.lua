-- Stores the jobs of a flow and its edges, or nothing.
--
-- keys[2..]  `job:<id>` of each job
-- asked      { how many jobs, how many may wait, with how many bytes of payload, how many a payload may have, the flow's id, of each
--            job: { what stands of it in `flow:<id>`, in `open:<id>`, in `after:<id>` }, the latter two false if it has none }
-- batch      the jobs, as in creation.lua
-- returns    nothing if the flow is stored; or else the place of the first job that keeps it from that, and why: the id of the job
--            that holds its unique key, TAKEN, TOO_LARGE, TOO_MANY_JOBS or TOO_MANY_JOB_BYTES

local flow

do
  -- The place of the first job whose id is known, or was until a moment ago.
  local function find_taken(count)
    local names = {}
    for n = 1, count do
      local key = keys[FIXED_KEYS + n]
      names[2 * n - 1], names[2 * n] = key, flows.after_key(id_of(key))
    end
    if reads.count(names) == 0 then
      return nil
    end
    for n = 1, count do
      if call('EXISTS', names[2 * n - 1], names[2 * n]) > 0 then
        return n
      end
    end
  end

  function flow()
    local count, jobs_max, bytes_max, payload_max, id, nodes = unpack(asked)
    local key = flows.key(id)
    if call('EXISTS', key) == 1 then
      return false
    end
    local taken = find_taken(count)
    if taken then
      return { taken, TAKEN }
    end
    creation.begin()
    flows.start()
    local bounds = { jobs = jobs_max, bytes = bytes_max, payload = payload_max }
    local refusals = creation.create(batch, count, FIXED_KEYS + 1, bounds, true, function(n, job)
      if nodes[n][2] then
        flows.block(job, nodes[n][2])
      end
      return nodes[n][2]
    end)
    local refused, why = creation.first_refusal(refusals, count)
    if refused then
      return { refused, why }
    end
    for n = 1, count do
      local job, after = id_of(keys[FIXED_KEYS + n]), nodes[n][3]
      writes.pair('HSET', key, job, nodes[n][1])
      if after then
        writes.string(flows.after_key(job), after)
      end
    end
    creation.complete()
    writes.commit()
    return false
  end
end
