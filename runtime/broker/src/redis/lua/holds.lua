-- Holds: what keeps jobs from being leased. A ZSET at `holds` has the scope of each, by when the hold ends, or +inf if somebody has
-- to lift it. A HASH at `hold_notes` has since when it is, why, who made it, and a note, as a MessagePack array. A scope is named as
-- a lane is, by queue and kind, either of which may be empty.
--
-- Breakers hold jobs of kinds back as well: see breaker.lua. A HASH at `gates` has what of each does, by its name, as a MessagePack
-- array: until when no job passes, 0 if some do, or NEVER if somebody has to open it; how many pass at once then, or 0 for all; from when
-- on all do; since when it is so; why; and the kinds. Those that pass as probes have places of a limit of the breaker's name behind a
-- mark, as in places.lua.
--
-- The tally says whether there may be any. Earlier versions, which know of none, may take that back; then a sweep says it again.

local holds = {}

do
  local ALL = ' ' -- the scope that covers all jobs

  local held -- by scope: whether it is in force; nothing if none is
  local first_end, has_kinds
  local shut, probed -- by kind: whether none passes, and { limit, how many at once, by turns }; nothing if there are no such kinds

  local PROBES = '!' -- before the name of a breaker, where it is that of a limit

  local function holds_key()
    return PREFIX .. 'holds'
  end

  local function notes_key()
    return PREFIX .. 'hold_notes'
  end

  local function gates_key()
    return PREFIX .. 'gates'
  end

  -- Whether something may still change by itself, and when: the time at which it does, or huge.
  local function changes_at(until_time, most, lapses)
    if until_time > 0 then
      return until_time < NEVER and until_time or huge
    end
    return most > 0 and lapses or huge
  end

  -- Says whether there are gates.
  local function read_gates()
    shut, probed = nil, nil
    local gates = call('HGETALL', gates_key())
    for n = 1, #gates, 2 do
      local is_whole, gate = pcall(unpack_values, gates[n + 1])
      if is_whole and type(gate) == 'table' then
        local until_time, most, lapses = unpack(gate)
        first_end = min(first_end, changes_at(until_time, most, lapses))
        local is_shut = until_time > now
        for k = GATE_KINDS, (is_shut or (most > 0 and lapses > now)) and #gate or 0 do
          has_kinds = true
          if is_shut then
            shut = shut or {}
            shut[gate[k]] = true
          else
            probed = probed or {}
            local limits = probed[gate[k]] or {}
            limits[#limits + 1], limits[#limits + 2] = PROBES .. gates[n], most
            probed[gate[k]] = limits
          end
        end
      end
    end
    return #gates > 0
  end

  -- Says whether there is anything.
  local function read()
    held, first_end, has_kinds = nil, huge, false
    local members = call('ZRANGE', holds_key(), '0', '-1', 'WITHSCORES')
    for n = 1, #members, 2 do
      local scope, ends = members[n], tonumber(members[n + 1]) or huge
      first_end = min(first_end, ends)
      if ends > now then
        held = held or {}
        held[scope] = true
        has_kinds = has_kinds or sub(scope, -1) ~= ' '
      end
    end
    return read_gates() or held ~= nil
  end

  function holds.start()
    held, first_end, has_kinds = nil, huge, false
    shut, probed = nil, nil
    if tally.may_have_holds() then
      read()
    end
  end

  -- When the first hold ends; huge if none does by itself.
  function holds.first_end()
    return first_end
  end

  -- Whether kinds are held back, in a queue or in all.
  function holds.has_kinds()
    return has_kinds
  end

  function holds.cover_all()
    return held and held[ALL]
  end

  -- Whether jobs of a kind in a queue are held back; with an empty kind, whether all jobs of the queue are.
  function holds.cover(queue, kind)
    return (held and (held[ALL] or held[queue .. ' '] or held[' ' .. kind] or held[queue .. ' ' .. kind]))
      or (shut and shut[kind])
  end

  -- The limits under which jobs of a kind are leased as probes, and how many at once may be, by turns; nothing if it has none.
  function holds.probes(kind)
    return probed and probed[kind]
  end

  -- The queues of a list, each with a number behind it, that aren't held back as a whole.
  function holds.without_held(queues)
    if not held then
      return queues
    end
    local left = {}
    for n = 1, #queues, 2 do
      if not holds.cover(queues[n], '') then
        left[#left + 1], left[#left + 2] = queues[n], queues[n + 1]
      end
    end
    return left
  end

  -- Makes a hold of a scope, in place of one that is there.
  function holds.make(scope, ends, reason, by, note)
    local before = call('ZSCORE', holds_key(), scope)
    if not before and call('ZCARD', holds_key()) >= HOLDS_MAX then
      return TOO_MANY_HOLDS
    end
    local since = now
    if before and (tonumber(before) or huge) > now then
      local is_whole, parts = pcall(unpack_values, call('HGET', notes_key(), scope) or '')
      since = is_whole and type(parts) == 'table' and tonumber(parts[1]) or now
    end
    writes.pair('ZADD', holds_key(), ends and score(ends) or '+inf', scope)
    writes.pair('HSET', notes_key(), scope, pack_values({ since, reason, by, note }))
    tally.note_holds(true)
    return DONE
  end

  local function forget(scope)
    writes.value('ZREM', holds_key(), scope)
    writes.value('HDEL', notes_key(), scope)
  end

  function holds.lift(scope)
    local before = call('ZSCORE', holds_key(), scope)
    if not before then
      return NOT_HELD
    end
    forget(scope)
    tally.note_holds(call('ZCARD', holds_key()) > 1 or call('EXISTS', gates_key()) == 1)
    return (tonumber(before) or huge) > now and LIFTED or NOT_HELD
  end

  -- Writes what of a breaker holds jobs back, or that nothing does any more.
  function holds.set_gate(name, gate)
    local before = call('HGET', gates_key(), name)
    if before == gate then
      return
    end
    if gate then
      writes.pair('HSET', gates_key(), name, gate)
      tally.note_holds(true)
    else
      writes.value('HDEL', gates_key(), name)
      tally.note_holds(#call('HGETALL', gates_key()) > 2 or call('EXISTS', holds_key()) == 1)
    end
    writes.wake()
  end

  -- Takes back from the gates what is over, and takes in when those that are left change. One that can't be read stays.
  local function sweep_gates()
    local gates = call('HGETALL', gates_key())
    for n = 1, #gates, 2 do
      local is_whole, gate = pcall(unpack_values, gates[n + 1])
      if is_whole and type(gate) == 'table' then
        local until_time, most, lapses = unpack(gate)
        if until_time <= now and (most == 0 or lapses <= now) then
          writes.value('HDEL', gates_key(), gates[n])
        else
          if until_time <= now and until_time > 0 then
            until_time, gate[1] = 0, 0
            writes.pair('HSET', gates_key(), gates[n], pack_values(gate))
          end
          first_end = min(first_end, changes_at(until_time, most, lapses))
        end
      end
    end
  end

  -- Forgets holds that have ended, and tells the listeners if there were any.
  function holds.sweep()
    local are_there = read()
    if first_end <= now then
      for _, scope in ipairs(call('ZRANGE', holds_key(), '-inf', now, 'BYSCORE')) do
        forget(scope)
      end
      first_end = tonumber(call('ZRANGE', holds_key(), '(' .. score(now), '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]) or huge
      sweep_gates()
      writes.wake()
    end
    tally.note_holds(are_there)
  end

  function holds.forget_all()
    writes.remove(holds_key())
    writes.remove(notes_key())
    writes.remove(gates_key())
    writes.remove(PREFIX .. 'breakers')
    tally.note_holds(false)
  end

  -- Those in force, all or those that cover a kind in a queue: of each the scope, when it ends or nothing, and the array.
  function holds.list(queue, kind)
    local list = {}
    local is_meant = queue and { [ALL] = true, [queue .. ' '] = true, [' ' .. kind] = true, [queue .. ' ' .. kind] = true }
    local members = call('ZRANGE', holds_key(), '0', '-1', 'WITHSCORES')
    for n = 1, #members, 2 do
      local ends = tonumber(members[n + 1]) or huge
      if ends > now and (not is_meant or is_meant[members[n]]) then
        list[#list + 1] = { members[n], ends < huge and score(ends), call('HGET', notes_key(), members[n]) }
      end
    end
    return list
  end

  -- What of breakers holds jobs back, all or those of a kind: name and array, by turns.
  function holds.gates(kind)
    local gates, list = call('HGETALL', gates_key()), {}
    for n = 1, #gates, 2 do
      local is_meant = not kind
      local is_whole, gate = pcall(unpack_values, gates[n + 1])
      for k = GATE_KINDS, is_whole and type(gate) == 'table' and #gate or 0 do
        is_meant = is_meant or gate[k] == kind
      end
      if is_meant then
        list[#list + 1], list[#list + 2] = gates[n], gates[n + 1]
      end
    end
    return list
  end
end
