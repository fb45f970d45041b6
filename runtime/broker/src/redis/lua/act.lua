-- Does one thing to several jobs, each by itself.
--
-- keys[2..]  `job:<id>` and `run:<id>` of each job, by turns; no job is twice in one call
-- asked      { what, how many jobs, keep of a cancelled job, the state that a job has to have still, the time before which it has to
--              have been leased last, and that before which it has to have ended, if it was and has; each false if that doesn't matter }
-- returns    for each job: DONE, REQUESTED, TOUCHED, UNKNOWN, UNREADABLE, NOT_IN plus the number of its state, or the id of the job that holds
--            its unique key

local act

do
  local keep

  local function cancel(id, run, priority, queue, length, kind, group)
    if run.state == LEASED then
      run.cancel = 1
      runs.save(id, run)
      writes.wake(id)
      return REQUESTED
    end
    if IS_FINAL[run.state] then
      return NOT_IN + run.state
    end
    cancel_waiting(id, run, priority, queue, length, kind, group, WHY_CANCELLED, keep)
    starting.leave({ id }, 1)
    return DONE
  end

  local function redrive(id, run, priority, queue, length, kind, group)
    if run.state ~= DEAD then
      return NOT_IN + standing.state_of(id, run, priority, queue, group)
    end
    local unique_key = run.places[UNIQUE_KEY]
    local rule = unique_key and jobs.rule(call('GET', JOB_KEY .. id))
    if rule and rule.ends ~= UNTIL_SETTLED then
      unique_key = false -- it held its key for a start or a time that is over
    end
    local holder = unique_key and unique.holder(unique_key)
    if holder then
      return holder
    end
    if unique_key then
      unique.claim(unique_key, id, rule)
    end
    finals.leave(id, DEAD)
    run.state, run.attempts, run.expiries, run.finished_at = READY, 0, 0, 0
    run.places[WHY] = false
    runs.count_faults(run.places, 0)
    runs.save(id, run)
    events.add(EVENT_REDRIVEN, id, queue, kind, group, 0)
    groups.revive(id, queue, group)
    local open = flows.waits_again(id, run.places[FLOW])
    if open then
      groups.give_up(id, queue, group)
      tally.came(1, length, length)
      flows.block(id, open)
    else
      groups.make_wait(id, priority, queue, kind, 0, length, 0, group)
    end
    return DONE
  end

  local function run_now(id, run, priority, queue, _, kind, group)
    if run.state == READY and flows.open(id, run.places[FLOW]) then
      flows.leave(id)
      standing.make_ready(id, run, priority, queue, kind, group, true)
      return DONE
    end
    local is = standing.state_of(id, run, priority, queue, group)
    if is ~= READY and is ~= SCHEDULED then
      return NOT_IN + is
    end
    local due, scheduled_as = waiting.due_at(id, priority, queue)
    if due then
      waiting.unschedule(scheduled_as)
      standing.make_ready(id, run, priority, queue, kind, group, false)
    end
    return DONE
  end

  local function remove(id, run, priority, queue, _, _, group)
    if not IS_FINAL[run.state] then
      return NOT_IN + standing.state_of(id, run, priority, queue, group)
    end
    groups.give_up(id, queue, group)
    finals.leave(id, run.state)
    flows.removed(id, run.places[FLOW], run.state)
    writes.remove(JOB_KEY .. id)
    writes.remove(RUN_KEY .. id)
    writes.remove(LOG_KEY .. id)
    return DONE
  end

  local STEPS = { [CANCEL] = cancel, [REDRIVE] = redrive, [RUN_NOW] = run_now, [REMOVE] = remove }

  -- The answer about a job that is something else than it was found as; nothing if it is still that.
  local function refusal(id, run, priority, queue, group, state, leased_until, finished_until)
    local is = state and standing.state_of(id, run, priority, queue, group)
    if is ~= state then
      return NOT_IN + is
    elseif run.leased_at >= (leased_until or huge) or run.finished_at >= (finished_until or huge) then
      return TOUCHED
    end
  end

  function act()
    local what, count, state, leased_until, finished_until
    what, count, keep, state, leased_until, finished_until = unpack(asked)
    local step = STEPS[what]
    writes.start()
    waiting.start()
    lanes.start()
    groups.start()
    tally.start()
    events.start()
    finals.start()
    unique.start()
    flows.start()
    local replies = {}
    for n = 1, count do
      local id = id_of(keys[FIXED_KEYS + 2 * n - 1])
      local run, priority, queue, length, kind, group = runs.of(id)
      if not run then
        replies[n] = UNKNOWN
      elseif run == reads.ALIEN then
        replies[n] = UNREADABLE
      else
        replies[n] = refusal(id, run, priority, queue, group, state, leased_until, finished_until)
          or step(id, run, priority, queue, length, kind, group)
      end
    end
    groups.finish()
    finals.finish_leaving()
    unique.finish()
    waiting.finish_and_wake()
    events.finish()
    tally.finish()
    writes.commit()
    return replies
  end
end
