-- Jobs that have to start within a time: a ZSET at `starting`, by when that is over. A job leaves it once it has started or is
-- final. The tally says whether there may be any.

local starting = {}

-- Cancels a job that waits and whose run is a table.
local function cancel_waiting(id, run, priority, queue, length, kind, group, why, keep)
  local due, scheduled_as = waiting.due_at(id, priority, queue)
  events.add(EVENT_CANCELLED, id, queue, kind, group, 0, why)
  if flows.open(id, run.places[FLOW]) then
    flows.leave(id)
  elseif due then
    waiting.unschedule(scheduled_as)
  elseif not groups.leave_line(id, priority, queue, kind, run.expiries, group) then
    waiting.leave(id, queue, kind)
  end
  groups.give_up(id, queue, group)
  tally.went(1, length)
  run.places[WHY] = why
  finals.finish(id, run, CANCELLED, keep)
  runs.save(id, run)
end

do
  -- Says that these jobs have started or are final, which stand in a list from this place on.
  function starting.leave(ids, from)
    if #ids < from or not tally.may_have_starting() then
      return
    end
    for n = from, #ids do
      writes.value('ZREM', STARTING, ids[n])
    end
  end

  -- When a job has to have started; nothing if it needn't, or has.
  function starting.of(id)
    return tally.may_have_starting() and tonumber(call('ZSCORE', STARTING, id) or nil) or nil
  end

  -- Says that a job has to have started at another time.
  function starting.put_off(id, start_by)
    writes.pair('ZADD', STARTING, score(start_by), id)
  end

  -- When the first one has to have started; huge if there is none.
  function starting.first()
    return tally.may_have_starting() and reads.first_score(STARTING) or huge
  end

  -- Whether a job has run, or may have: an earlier version takes nothing out of here.
  local function has_started(run)
    return run.state ~= READY or run.attempts > 0 or run.expiries > 0 or run.places[RAN]
  end

  -- Cancels the jobs that have not started within their time, in a step of its own. Returns how many had that time behind them, at
  -- most `SWEEP_MAX`. It starts the tally, for what comes after it as well.
  function starting.expire()
    tally.start()
    if starting.first() > now then
      return 0
    end
    writes.start()
    waiting.start()
    finals.start()
    unique.start()
    lanes.start()
    groups.start()
    flows.start()
    events.start()
    local ids = call('ZRANGE', STARTING, '-inf', now, 'BYSCORE', 'LIMIT', 0, SWEEP_MAX)
    writes.knows(STARTING)
    for _, id in ipairs(ids) do
      local run, priority, queue, length, kind, group = runs.of(id)
      if run == reads.ALIEN then
        writes.pair('ZADD', STARTING, score(now + STARTING_PUT_OFF), id)
      else
        writes.value('ZREM', STARTING, id)
        if run and not has_started(run) then
          cancel_waiting(id, run, priority, queue, length, kind, group, WHY_EXPIRED_UNSTARTED, KEEP_DONE)
        end
      end
    end
    groups.finish()
    unique.finish()
    waiting.finish_and_wake()
    events.finish()
    tally.finish()
    writes.commit()
    tally.start()
    return #ids
  end
end
