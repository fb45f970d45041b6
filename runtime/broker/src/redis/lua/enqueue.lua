-- Stores jobs.
--
-- keys[7..]  `job:<id>` of each job, then `ready:<queue>` of each queue that they name
-- asked      { how many jobs, how many may wait, with how many bytes of payload, how many a payload may have }
-- batch      the jobs, as in creation.lua
-- returns    nothing if all are stored, or else for each job: nothing, the id of the job that holds its unique key, TOO_LARGE,
--            TOO_MANY_JOBS or TOO_MANY_JOB_BYTES

local function enqueue()
  writes.start()
  waiting.start()
  lanes.start()
  tally.start()
  unique.start()
  creation.start(true)
  local count, jobs_max, bytes_max, payload_max = unpack(asked)
  local bounds = { jobs = jobs_max, bytes = bytes_max, payload = payload_max }
  local refusals = creation.create(batch, count, FIXED_KEYS + 1, bounds)
  unique.finish()
  waiting.finish_and_wake()
  tally.finish()
  writes.commit()
  if not refusals then
    return false
  end
  local replies = {}
  for n = 1, count do
    replies[n] = refusals[n] or ''
  end
  return replies
end
