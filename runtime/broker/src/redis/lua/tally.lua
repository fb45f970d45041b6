-- What is counted of a tenant, in a STRING at `tally`: how many jobs wait, how long their payloads are together, how long the
-- longest one has been since nothing waited, how often a lane has come or gone, and as a sum whether there may be suspects (1),
-- daemons that wait (2), holds (4), edges of flows that are to be settled (8), jobs that have to start within a time (16), rules
-- for groups, turns or lines (32), whether somebody may want events (64), and fair queues (128).

local tally = {}

do
  local TALLY, TALLY_BYTES = '>I6I8I6I6B', 27

  local is_known, is_changed
  local was_there -- or may be of another type, which MGET doesn't tell
  local jobs_now, bytes_now, longest_now, lanes_now
  local has_suspects, has_waiters, has_holds, has_settled, has_starting, has_groups, has_events, has_fair

  function tally.start()
    is_known, is_changed = false, false
  end

  local function take(stored)
    local flags = 0
    if stored and #stored >= TALLY_BYTES then
      jobs_now, bytes_now, longest_now, lanes_now, flags = unpack_bytes(TALLY, stored)
    else
      jobs_now, bytes_now, longest_now, lanes_now = 0, 0, 0, 0
    end
    has_suspects, has_waiters, has_holds = flags % 2 >= 1, flags % 4 >= 2, flags % 8 >= 4
    has_settled, has_starting, has_groups = flags % 16 >= 8, flags % 32 >= 16, flags % 64 >= 32
    has_events, has_fair = flags % 128 >= 64, flags >= 128
    is_known, was_there = true, stored
  end

  local function read()
    take(call('GET', TALLY_KEY))
  end

  -- Reads the tally and strings at other keys by one command. The first place of the names is the tally's. Returns what
  -- `reads.strings` does.
  function tally.read_with(names)
    names[1] = TALLY_KEY
    local values = reads.strings(names, 2)
    take(values[1])
    return values
  end

  -- How much waits, with what this call has changed so far: jobs, bytes, and the longest payload.
  function tally.waiting()
    if not is_known then
      read()
    end
    return jobs_now, bytes_now, longest_now
  end

  -- How often a lane has come or gone.
  function tally.lanes()
    if not is_known then
      read()
    end
    return lanes_now
  end

  -- Whether there may be jobs in lanes of suspects.
  function tally.may_have_suspects()
    if not is_known then
      read()
    end
    return has_suspects
  end

  -- Says that there are some.
  function tally.has_suspects()
    if not tally.may_have_suspects() then
      has_suspects, is_changed = true, true
    end
  end

  -- Whether daemons may be known to wait for jobs of some lane.
  function tally.may_have_waiters()
    if not is_known then
      read()
    end
    return has_waiters
  end

  -- Says whether there are some.
  function tally.note_waiters(are_there)
    if tally.may_have_waiters() ~= are_there then
      has_waiters, is_changed = are_there, true
    end
  end

  -- Whether there may be holds.
  function tally.may_have_holds()
    if not is_known then
      read()
    end
    return has_holds
  end

  -- Says whether there are some.
  function tally.note_holds(are_there)
    if tally.may_have_holds() ~= are_there then
      has_holds, is_changed = are_there, true
    end
  end

  -- Whether there may be jobs that have to start within a time.
  function tally.may_have_starting()
    if not is_known then
      read()
    end
    return has_starting
  end

  -- Says whether there are some.
  function tally.note_starting(are_there)
    if tally.may_have_starting() ~= are_there then
      has_starting, is_changed = are_there, true
    end
  end

  -- Whether there may be rules for groups, turns or lines.
  function tally.has_groups()
    if not is_known then
      read()
    end
    return has_groups
  end

  -- Says whether there are some.
  function tally.note_groups(are_there)
    if tally.has_groups() ~= are_there then
      has_groups, is_changed = are_there, true
    end
  end

  -- Whether there may be fair queues.
  function tally.has_fair()
    if not is_known then
      read()
    end
    return has_fair
  end

  -- Says whether there are some.
  function tally.note_fair(are_there)
    if tally.has_fair() ~= are_there then
      has_fair, is_changed = are_there, true
    end
  end

  -- Whether somebody may want events.
  function tally.may_have_events()
    if not is_known then
      read()
    end
    return has_events
  end

  -- Says whether somebody does.
  function tally.note_events(are_wanted)
    if tally.may_have_events() ~= are_wanted then
      has_events, is_changed = are_wanted, true
    end
  end

  -- Whether edges of flows may be to be settled.
  function tally.may_have_settled()
    if not is_known then
      read()
    end
    return has_settled
  end

  -- Says whether there are some. All are told of the first ones, since somebody has to sweep.
  function tally.note_settled(are_there)
    if tally.may_have_settled() ~= are_there then
      has_settled, is_changed = are_there, true
      if are_there then
        writes.wake()
      end
    end
  end

  -- Says that so many jobs wait from now on, with so many bytes of payload, the longest of which has so many.
  function tally.came(jobs_more, bytes_more, longest)
    tally.waiting()
    jobs_now, bytes_now, longest_now = jobs_now + jobs_more, bytes_now + bytes_more, max(longest_now, longest)
    is_changed = true
  end

  -- Says that so many jobs with so many bytes of payload don't wait any more.
  function tally.went(jobs_gone, bytes_gone)
    tally.waiting()
    jobs_now, bytes_now = max(jobs_now - jobs_gone, 0), max(bytes_now - bytes_gone, 0)
    is_changed = true
  end

  -- Sets right how many jobs wait, as an earlier version, which doesn't keep count, may have been at work; and whether there are
  -- suspects.
  function tally.correct(actual, suspects)
    if tally.may_have_suspects() ~= suspects then
      has_suspects, is_changed = suspects, true
    end
    if actual ~= jobs_now then
      bytes_now = jobs_now > 0 and floor(bytes_now * actual / jobs_now) or 0
      jobs_now, is_changed = actual, true
    end
  end

  -- Says that a lane has come or gone.
  function tally.count_lane()
    lanes_now = tally.lanes() + 1
    is_changed = true
  end

  function tally.finish()
    if not is_changed then
      return
    end
    if not was_there then
      call('GET', TALLY_KEY)
    end
    if jobs_now == 0 then
      bytes_now, longest_now, has_suspects = 0, 0, false
    end
    local has_any = has_waiters or has_holds or has_settled or has_starting or has_groups or has_events or has_fair
    if jobs_now == 0 and lanes_now == 0 and not has_any then
      writes.remove(TALLY_KEY)
    else
      local flags = (has_suspects and 1 or 0) + (has_waiters and 2 or 0) + (has_holds and 4 or 0) + (has_settled and 8 or 0)
        + (has_starting and 16 or 0) + (has_groups and 32 or 0) + (has_events and 64 or 0) + (has_fair and 128 or 0)
      writes.string(TALLY_KEY, pack_bytes(TALLY, jobs_now, bytes_now, longest_now, lanes_now, flags))
    end
  end
end
