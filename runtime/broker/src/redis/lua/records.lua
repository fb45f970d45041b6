-- All that is stored of a job: { id, the bytes of the job, the bytes of its run or nil, when it is due or its lease
-- runs out or nil, whether it is blocked }; nothing if there is no such job, `reads.ALIEN` if what is there is no job.

local function record_of(id)
  local job, packed = reads.try('GET', JOB_KEY .. id), reads.try('GET', RUN_KEY .. id)
  if not job then
    return false
  end
  if job == reads.ALIEN or packed == reads.ALIEN then
    return reads.ALIEN
  end
  local is = READY
  if packed then
    is = runs.head(packed)
  end
  local priority, queue = jobs.read(job)
  local at, is_blocked = false, false
  if is == READY and priority then
    at = waiting.due_at(id, priority, queue)
    is_blocked = not at and byte(job, 1) == WITH_OPTIONS and call('ZSCORE', BLOCKED_KEY, id) ~= false
  elseif is == LEASED then
    at = call('ZSCORE', LEASES, id)
  end
  return { id, job, packed, at, is_blocked and 1 or 0 }
end
