-- Edits a job that waits, as a whole or not at all. The rules are in `core/src/edit.rs`.
--
-- keys[2..]  `job:<id>` and `run:<id>`
-- asked      { payload, priority, after how many milliseconds it is due, at which time it is; each false if it stays: of the last two
--              one at least. Then how many bytes a payload may have, and how many all that wait }
-- returns    DONE, UNKNOWN, UNREADABLE, TOO_LARGE, TOO_MANY_JOB_BYTES, or NOT_IN plus the number of its state

local edit

do
  -- How many bytes of payload come by an edit, or the number of the answer that there would be too many.
  local function more_bytes(payload, length, payload_max, bytes_max)
    local more = payload and #payload - length or 0
    if payload and #payload > payload_max then
      return nil, TOO_LARGE
    end
    local _, bytes_now = tally.waiting()
    if more > 0 and bytes_now + more > bytes_max then
      return nil, TOO_MANY_JOB_BYTES
    end
    return more
  end

  -- Has a scheduled or ready job wait for so long, or no longer.
  local function move(id, run, priority, queue, kind, group, due, scheduled_as, delay)
    local start_by = starting.of(id)
    if start_by and now + delay > (due or now) then
      starting.put_off(id, start_by + now + delay - (due or now))
    end
    if due then
      waiting.unschedule(scheduled_as)
    else
      waiting.leave(id, queue, kind)
    end
    if delay > 0 then
      groups.put_off(id, priority, queue, run.expiries, delay, group)
    else
      standing.make_ready(id, run, priority, queue, kind, group, false)
    end
  end

  -- Has a job wait where it does, with another priority.
  local function rank(id, run, state, before, priority, queue, kind, group, due, scheduled_as)
    if state == SCHEDULED then
      waiting.unschedule(scheduled_as)
      waiting.schedule(id, priority, sub(scheduled_as, 28), due - now)
    elseif state == READY then
      waiting.rank(id, queue, kind, before, priority, group)
    else
      groups.rank(id, before, priority, queue, kind, run.expiries, group)
    end
  end

  function edit()
    local payload, wanted, after, at, payload_max, bytes_max = unpack(asked)
    writes.start()
    waiting.start()
    lanes.start()
    groups.start()
    tally.start()
    events.start()
    flows.start()
    local id = id_of(keys[FIXED_KEYS + 1])
    local run, before, queue, length, kind, group = runs.of(id)
    if not run then
      return UNKNOWN
    elseif run == reads.ALIEN then
      return UNREADABLE
    end
    local state = standing.state_of(id, run, before, queue, group)
    local delay = after or at and max(at - now, 0)
    if run.state ~= READY or (delay and state == BLOCKED) then
      return NOT_IN + state
    end
    local more, excess = more_bytes(payload, length, payload_max, bytes_max)
    if excess then
      return excess
    end
    local priority = wanted or before
    local due, scheduled_as = waiting.due_at(id, before, queue)
    due = tonumber(due or nil)
    if delay and (delay > 0 or state == SCHEDULED) then
      move(id, run, priority, queue, kind, group, due, scheduled_as, delay)
    elseif priority ~= before then
      rank(id, run, state, before, priority, queue, kind, group, due, scheduled_as)
    end
    if payload or priority ~= before then
      writes.string(JOB_KEY .. id, jobs.with(call('GET', JOB_KEY .. id), priority, payload))
    end
    if payload then
      tally.came(0, more, #payload)
    end
    groups.finish()
    waiting.finish_and_wake()
    events.finish()
    tally.finish()
    writes.commit()
    return DONE
  end
end
