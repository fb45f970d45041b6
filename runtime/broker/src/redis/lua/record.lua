-- All that is stored of a job: { id, the bytes of the job, the bytes of its run or nil, when it is due or its lease
-- runs out or nil }; nil if there is no such job.
local function record_of(id)
  local job = call('GET', JOB_KEY .. id)
  if not job then
    return false
  end
  local packed = call('GET', RUN_KEY .. id)
  local run = read_run(packed)
  local state = run and run[STATE] or READY
  local priority, queue = read_head(job)
  local at = false
  if state == READY and priority then
    at = due_at(id, priority, queue)
  elseif state == LEASED then
    at = call('ZSCORE', LEASES, id)
  end
  return { id, job, packed, at }
end
