-- Does one thing to several jobs, each by itself.
--
-- keys[2..]  `job:<id>` and `run:<id>` of each job, by turns; no job is twice in one call
-- asked      { what, how many jobs, keep of a cancelled job }
-- returns    for each job: DONE, REQUESTED, UNKNOWN, UNREADABLE, NOT_IN plus the number of its state, or the id of the job that holds
--            its unique key

local act

do
  local keep

  -- The state as it is told, in which a job that waits is ready or scheduled.
  local function state_of(id, run, priority, queue)
    return run.state == READY and waiting.due_at(id, priority, queue) and SCHEDULED or run.state
  end

  local function cancel(id, run, priority, queue, length, kind)
    if run.state == LEASED then
      run.cancel = 1
      runs.save(id, run)
      writes.wake(id)
      return REQUESTED
    end
    if IS_FINAL[run.state] then
      return NOT_IN + run.state
    end
    cancel_waiting(id, run, priority, queue, length, kind, WHY_CANCELLED, keep)
    starting.leave({ id }, 1)
    return DONE
  end

  local function redrive(id, run, priority, queue, length, kind)
    if run.state ~= DEAD then
      return NOT_IN + state_of(id, run, priority, queue)
    end
    local unique_key = run.places[UNIQUE_KEY]
    local holder = unique_key and unique.holder(unique_key)
    if holder then
      return holder
    end
    if unique_key then
      unique.claim(unique_key, id)
    end
    finals.leave(id, DEAD)
    run.state, run.attempts, run.expiries, run.finished_at = READY, 0, 0, 0
    run.places[WHY] = false
    runs.count_faults(run.places, 0)
    runs.save(id, run)
    waiting.add(id, priority, queue, kind, 0, length, 0)
    return DONE
  end

  local function run_now(id, run, priority, queue, _, kind)
    if run.state ~= READY then
      return NOT_IN + run.state
    end
    local due, scheduled_as = waiting.due_at(id, priority, queue)
    if due then
      waiting.unschedule(scheduled_as)
      waiting.put(id, priority, lanes.of(queue, kind, run.expiries))
    end
    return DONE
  end

  local function remove(id, run, priority, queue)
    if not IS_FINAL[run.state] then
      return NOT_IN + state_of(id, run, priority, queue)
    end
    finals.leave(id, run.state)
    writes.remove(JOB_KEY .. id)
    writes.remove(RUN_KEY .. id)
    writes.remove(LOG_KEY .. id)
    return DONE
  end

  local STEPS = { [CANCEL] = cancel, [REDRIVE] = redrive, [RUN_NOW] = run_now, [REMOVE] = remove }

  function act()
    local what, count
    what, count, keep = unpack(asked)
    local step = STEPS[what]
    writes.start()
    waiting.start()
    lanes.start()
    tally.start()
    finals.start()
    unique.start()
    local replies = {}
    for n = 1, count do
      local id = id_of(keys[FIXED_KEYS + 2 * n - 1])
      local run, priority, queue, length, kind = runs.of(id)
      if not run then
        replies[n] = UNKNOWN
      elseif run == reads.ALIEN then
        replies[n] = UNREADABLE
      else
        replies[n] = step(id, run, priority, queue, length, kind)
      end
    end
    finals.finish_leaving()
    unique.finish()
    waiting.finish_and_wake()
    tally.finish()
    writes.commit()
    return replies
  end
end
