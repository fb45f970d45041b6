-- Holds: what keeps jobs from being leased. A ZSET at `holds` has the scope of each, by when the hold ends, or +inf if somebody has
-- to lift it. A HASH at `hold_notes` has since when it is, why, who made it, and a note, as a MessagePack array. A scope is named as
-- a lane is, by queue and kind, either of which may be empty.
--
-- The tally says whether there may be any. Earlier versions, which know of none, may take that back; then a sweep says it again.

local holds = {}

do
  local ALL = ' ' -- the scope that covers all jobs

  local held -- by scope: whether it is in force; nothing if none is
  local first_end, has_kinds

  local function holds_key()
    return PREFIX .. 'holds'
  end

  local function notes_key()
    return PREFIX .. 'hold_notes'
  end

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
  end

  function holds.start()
    held, first_end, has_kinds = nil, huge, false
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
    return held and (held[ALL] or held[queue .. ' '] or held[' ' .. kind] or held[queue .. ' ' .. kind])
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
    tally.note_holds(call('ZCARD', holds_key()) > 1)
    return (tonumber(before) or huge) > now and LIFTED or NOT_HELD
  end

  -- Forgets holds that have ended, and tells the listeners if there were any.
  function holds.sweep()
    read()
    if first_end <= now then
      for _, scope in ipairs(call('ZRANGE', holds_key(), '-inf', now, 'BYSCORE')) do
        forget(scope)
      end
      first_end = tonumber(call('ZRANGE', holds_key(), '(' .. score(now), '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]) or huge
      writes.wake()
    end
    tally.note_holds(held ~= nil)
  end

  function holds.forget_all()
    writes.remove(holds_key())
    writes.remove(notes_key())
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
end
