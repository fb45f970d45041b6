-- Settling the edges of jobs that have ended: see flows.lua.

do
  local ID_BYTES = 26
  local EDGE_BYTES = ID_BYTES + 1

  local opens -- by id of a dependant: the ids of the jobs that it waits for, or false
  local changed -- ids of dependants that wait for fewer than before
  local keep_dead, keep_cancelled

  local function look_up(ids)
    local unknown, names = {}, {}
    for _, id in ipairs(ids) do
      if opens[id] == nil then
        unknown[#unknown + 1], names[#names + 1] = id, flows.open_key(id)
      end
    end
    for n, open in ipairs(reads.values(names)) do
      opens[unknown[n]] = open
    end
  end

  -- The ids without this one; nothing if it isn't among them.
  local function without(open, parent)
    for at = 1, open and #open or 0, ID_BYTES do
      if sub(open, at, at + ID_BYTES - 1) == parent then
        return sub(open, 1, at - 1) .. sub(open, at + ID_BYTES)
      end
    end
    return nil
  end

  -- Closes an edge, which leaves these open. With the last one, the job waits for nothing but its delay.
  local function close(id, left)
    if left ~= '' then
      opens[id] = left
      changed[id] = true
      return
    end
    local priority, queue, _, _, kind, group, mark = jobs.head(id)
    if not priority then
      return -- one that can't be read stays where it is
    end
    opens[id], changed[id] = false, nil
    flows.leave(id)
    local delay = mark and flows.delay_of(mark) or 0
    local in_line = delay == 0 and groups.hold_back(id, priority, queue, kind, 0, group, true)
    if not in_line then
      events.add(EVENT_UNBLOCKED, id, queue, kind, group, 0)
    end
    if delay > 0 then
      waiting.schedule(id, priority, queue, delay)
    elseif not in_line then
      groups.put(id, priority, queue, kind, 0, group)
    end
  end

  -- Ends a job for the end of a parent of it.
  local function fail(id, state, why)
    local run, _, queue, length, kind, group = runs.of(id)
    if not run or run == reads.ALIEN then
      return
    end
    opens[id], changed[id] = false, nil
    flows.leave(id)
    tally.went(1, length)
    run.places[WHY] = pack_values({ EDGE.reason, why })
    events.add(state == DEAD and EVENT_DEAD or EVENT_CANCELLED, id, queue, kind, group, 0, run.places[WHY])
    finals.finish(id, run, state, state == DEAD and keep_dead or keep_cancelled)
    starting.leave({ id }, 1)
    runs.save(id, run)
  end

  local function told(state, is_removed)
    if is_removed then
      return EDGE.was_removed
    end
    return state == CANCELLED and EDGE.was_cancelled or EDGE.is_dead
  end

  -- Settles the edges of a job that has ended so; returns how many there are.
  local function settle_all(parent, state, is_removed, after)
    if not after then
      return 0
    end
    local name_end, ids = 1 + byte(after), {}
    local name = sub(after, 2, name_end)
    for at = name_end + 1, #after, EDGE_BYTES do
      ids[#ids + 1] = sub(after, at, at + ID_BYTES - 1)
    end
    look_up(ids)
    for n, id in ipairs(ids) do
      local left = without(opens[id], parent)
      local on_failure = byte(after, name_end + n * EDGE_BYTES)
      if left and (state == SUCCEEDED or on_failure == EDGE.ignore) then
        close(id, left)
      elseif left and (on_failure ~= EDGE.hold or is_removed) then
        local why = 'job `' .. name .. '` (' .. parent .. '), which it comes after, ' .. told(state, is_removed)
        fail(id, state == CANCELLED and CANCELLED or DEAD, why)
      end
    end
    if is_removed then
      writes.remove(flows.after_key(parent))
    end
    return #ids
  end

  -- Settles edges of those who have ended, in the order of their ends, and of those who end by that, until there are no more or so
  -- many are settled.
  function flows.settle_edges(most, of_dead, of_cancelled)
    local queue = call('ZRANGE', flows.settled_key(), 0, most - 1)
    local stored = #queue
    if stored == 0 then
      return tally.note_settled(groups.has_rests())
    end
    opens, changed, keep_dead, keep_cancelled = {}, {}, of_dead, of_cancelled
    local names_of_runs, names_of_edges, ended = {}, {}, {}
    for n, entry in ipairs(queue) do
      local id = sub(entry, 1, ID_BYTES)
      names_of_runs[n], names_of_edges[n] = RUN_KEY .. id, flows.after_key(id)
    end
    local packed, afters = reads.strings(names_of_runs), reads.values(names_of_edges)
    flows.collect(queue, ended)
    local n, count = 1, 0
    while queue[n] and count < most do
      local parent, code = sub(queue[n], 1, ID_BYTES), byte(queue[n], EDGE_BYTES)
      local is_removed = code >= EDGE.removed
      local state = is_removed and code - EDGE.removed or ended[parent] or runs.head(packed[n])
      -- One that was put back since has not ended.
      if IS_FINAL[state] then
        local after = afters[n]
        if n > stored then
          after = call('GET', flows.after_key(parent))
        end
        count = count + settle_all(parent, state, is_removed, after)
      end
      writes.value('ZREM', flows.settled_key(), queue[n])
      n = n + 1
    end
    for left = max(n, stored + 1), #queue do
      writes.pair('ZADD', flows.settled_key(), score(now), queue[left])
    end
    for id in pairs(changed) do
      writes.string(flows.open_key(id), opens[id])
    end
    tally.note_settled(n <= #queue or call('ZCARD', flows.settled_key()) > stored or groups.has_rests())
    writes.knows(flows.settled_key())
    flows.collect(nil, nil)
  end
end
