-- All that is stored of a job: { id, the bytes of the job, the bytes of its run or nil, when it is due or its lease
-- runs out or nil }; nil if there is no such job.
local function record_of(id)
  local job = call('GET', job_key(id))
  if not job then
    return false
  end
  local packed = call('GET', run_key(id))
  local run = packed and cmsgpack.unpack(packed) or new_run(job)
  local at = false
  if run and run[STATE] == READY then
    at = due_at(id, run)
  elseif run and run[STATE] == LEASED then
    at = call('ZSCORE', LEASES, id)
  end
  return { id, job, packed, at or false }
end
