-- Where a job stands that somebody does something to, and how one that waits gets ready.

local standing = {}

do
  -- The state as it is told, in which a job that waits is ready, blocked or scheduled.
  function standing.state_of(id, run, priority, queue, group)
    if run.state ~= READY then
      return run.state
    elseif flows.open(id, run.places[FLOW]) then
      return BLOCKED
    end
    return waiting.due_at(id, priority, queue) and SCHEDULED or groups.has_in_line(id, group) and BLOCKED or READY
  end

  -- Makes a job ready that waits, or has it wait in its group's line. `was_blocked`: whether it waited for others of its flow.
  function standing.make_ready(id, run, priority, queue, kind, group, was_blocked)
    if not groups.hold_back(id, priority, queue, kind, run.expiries, group, was_blocked) then
      groups.put(id, priority, queue, kind, run.expiries, group)
      if was_blocked then
        events.add(EVENT_UNBLOCKED, id, queue, kind, group, 0)
      end
    end
  end
end
