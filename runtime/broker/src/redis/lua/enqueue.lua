-- Stores jobs.
--
-- keys[2..]  `job:<id>` of each job
-- asked      { how many jobs, how many may wait, with how many bytes of payload, how many a payload may have }
-- batch      the jobs, as in creation.lua
-- returns    nothing if all are stored, or else for each job: nothing, the id of the job that holds its unique key, TOO_LARGE,
--            TOO_MANY_JOBS or TOO_MANY_JOB_BYTES

local enqueue

do
  -- Returns what `creation.create` does. With `are_new` it is taken that none of the jobs is there; if one is, or may be the one that
  -- another is refused for, nothing is stored or returned.
  local function store(are_new)
    creation.begin()
    waiting.begin_at(tally.read_with({ false, SEQUENCE })[2])
    local count, jobs_max, bytes_max, payload_max = unpack(asked)
    local bounds = { jobs = jobs_max, bytes = bytes_max, payload = payload_max }
    local refusals = creation.create(batch, count, FIXED_KEYS + 1, bounds, are_new)
    if refusals and are_new then
      return nil
    end
    creation.complete()
    if writes.commit() then
      return refusals
    end
  end

  function enqueue()
    local count = asked[1]
    local refusals = nil
    -- Most jobs are new. Of those that aren't, some call before this one has got no answer.
    if 2 * count <= SLICE then
      refusals = store(true)
    end
    if refusals == nil then
      refusals = store(false)
    end
    if not refusals then
      return false
    end
    local replies = {}
    for n = 1, count do
      replies[n] = refusals[n] or ''
    end
    return replies
  end
end
