-- Events of jobs, which are recorded while somebody wants them: see `core/src/event.rs`. The tally says whether somebody may.
--
-- events     LIST: the events that are kept, in their order: see HEAD and BODY
-- event_log  STRING: see LOG
--
-- What happens in a call is gathered in order; whatever is decided only at its end has kept a place in that order.

local events = {}

do
  -- Until when they are wanted, for how many milliseconds and how many of them are kept, and the numbers of the first and the last.
  local LOG, LOG_BYTES = '>I6I8I4I8I8', 34
  local HEAD = '>I8I6' -- number and time
  local BODY = '>BI4c26Bc0Bc0Bc0Bc0' -- what, attempt or 0, job, and each with its length: queue, kind, group or nothing, reason or nothing

  local is_wanted -- once it is known
  local wanted_until, keep, most, first, last
  local gathered, count -- by place: the body, or nothing

  function events.start()
    is_wanted, gathered, count = nil, nil, 0
  end

  local function list_key()
    return PREFIX .. 'events'
  end

  function events.log_key()
    return PREFIX .. 'event_log'
  end

  -- Looks what is kept. Says whether anything is, and whether it is wanted.
  local function read()
    local stored = call('GET', events.log_key())
    if not stored or #stored < LOG_BYTES then
      is_wanted = false
      return false
    end
    wanted_until, keep, most, first, last = unpack_bytes(LOG, stored)
    is_wanted = wanted_until > now
    return true
  end

  local function write()
    writes.string(events.log_key(), pack_bytes(LOG, wanted_until, keep, most, first, last))
  end

  -- The numbers of the first and the last event that are kept; nothing if none are wanted.
  function events.span()
    read()
    if is_wanted then
      return first, last
    end
  end

  -- Events from this place of the list on, at most so many.
  function events.list(from, at_most)
    return call('LRANGE', list_key(), from, from + at_most - 1)
  end

  -- Whether events are recorded.
  function events.are_wanted()
    if is_wanted == nil then
      is_wanted = false
      if tally.may_have_events() then
        read()
      end
    end
    return is_wanted
  end

  -- Keeps a place among the events of this call; nothing if they aren't recorded.
  function events.place()
    if events.are_wanted() then
      gathered, count = gathered or {}, count + 1
      return count
    end
  end

  -- Puts an event at such a place: `attempt` is 0 if it is about none, and `why` a packed reason or nothing. A job that can't be read
  -- has no queue, and no events.
  function events.add_at(place, what, id, queue, kind, group, attempt, why)
    if place and queue then
      local reason = why and unpack_values(why)[1] or ''
      group = group or ''
      gathered[place] =
        pack_bytes(BODY, what, attempt, id, #queue, queue, #kind, kind, #group, group, #reason, reason)
    end
  end

  -- Adds an event behind all others of this call.
  function events.add(what, id, queue, kind, group, attempt, why)
    events.add_at(events.place(), what, id, queue, kind, group, attempt, why)
  end

  -- Has events recorded for so many milliseconds, and kept for as long; so many at most. Returns the number of the last one so far.
  -- Where the tally doesn't say so, an earlier version, which knows of no events, has been at work: then the record begins anew, as
  -- some may be missing.
  function events.want(time, at_most)
    local is_kept = read()
    if not (is_kept and is_wanted and tally.may_have_events()) then
      wanted_until, last = 0, max(now * EVENTS_PER_MILLI, is_kept and last + 1 or 0)
      first = last + 1
      writes.pair('LTRIM', list_key(), '1', '0')
    end
    wanted_until, keep, most = max(wanted_until, now + time), time, at_most
    tally.note_events(true)
    write()
    return last
  end

  -- Completes what was gathered, and tells the listeners.
  function events.finish()
    if count == 0 then
      return
    end
    local before, list = last, writes.list('RPUSH', list_key())
    for n = 1, count do
      if gathered[n] then
        last = last + 1
        list[last - before + 2] = pack_bytes(HEAD, last, now) .. gathered[n]
      end
    end
    if last == before then
      return
    end
    local surplus = last - first + 1 - most
    if surplus > 0 then
      writes.pair('LTRIM', list_key(), score(surplus), '-1')
      first = first + surplus
    end
    write()
    writes.wake(RECORDED)
  end

  local function is_old(event)
    local _, at = unpack_bytes(HEAD, event)
    return at + keep <= now
  end

  -- Removes events that are too old, at most so many, and all once nobody wants them any more.
  function events.sweep(at_most)
    local is_kept = read()
    local goes_on = is_kept and is_wanted and tally.may_have_events()
    tally.note_events(goes_on)
    if not is_kept then
      return
    elseif not goes_on then
      writes.remove(list_key())
      writes.remove(events.log_key())
      return
    end
    local oldest = events.list(0, 1)[1]
    if oldest and is_old(oldest) then
      local old = 0
      for _, event in ipairs(events.list(0, at_most)) do
        if not is_old(event) then
          break
        end
        old = old + 1
      end
      writes.pair('LTRIM', list_key(), score(old), '-1')
      first = first + old
      write()
    end
  end
end
