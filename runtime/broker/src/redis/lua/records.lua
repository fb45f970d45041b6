-- All that is stored of a job: { id, the bytes of the job, the bytes of its run or nil, when it is due or its lease
-- runs out or nil, whether it is blocked, the ids of the jobs of its flow that it is blocked for or nil }; nothing if there is no such
-- job, `reads.ALIEN` if what is there is no job.

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
  local at, is_blocked, open = false, false, false
  if is == READY and priority then
    at = waiting.due_at(id, priority, queue)
    is_blocked = not at and byte(job, 1) == WITH_OPTIONS and call('ZSCORE', BLOCKED_KEY, id) ~= false
    open = is_blocked and flows.open(id, jobs.mark(job)) or false
  elseif is == LEASED then
    at = call('ZSCORE', LEASES, id)
  end
  return { id, job, packed, at, is_blocked and 1 or 0, open }
end

-- The same without payload and output, and the output. Of a job that isn't there or can't be read, there is no more than the id.
local function bare_record_of(id)
  local record = record_of(id)
  if not record or record == reads.ALIEN then
    return { id, false, false, false, 0, false }
  end
  local run, output = record[3] and runs.read(record[3]), nil
  if jobs.read(record[2]) then
    record[2] = sub(record[2], 1, (jobs.payload_at(record[2])))
  end
  if run and run.places[OUTPUT] then
    output = run.places[OUTPUT]
    run.places[OUTPUT] = false
    record[3] = runs.pack(run)
  end
  return record, output
end
