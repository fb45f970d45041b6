-- Final jobs: a ZSET for each state and keep time, at `finals:<class>`, by when they finished. All jobs of a class are
-- kept for the same time, so its first one is also the first to be removed. Jobs of flows have classes of their own, as more is
-- to be done when they are removed, and so have those that are counted among the ones of the plugin that ran them. The name of a
-- class is its state, `flow` if it is of jobs of flows, `@` and the plugin if there is one, and the keep time.

local finals = {}

do
  local CLASS_OF = { [SUCCEEDED] = 'succeeded:', [DEAD] = 'dead:', [CANCELLED] = 'cancelled:' } -- and the rest
  local OF_FLOWS = 'flow:'

  local by_keep -- by state and what comes behind it: where new members stand
  local finished_at
  local leaving -- by class: ids of jobs that leave it
  local last_state, last_keep, last_plugin, last_members, last_count -- where the latest one was put

  function finals.start()
    by_keep, finished_at, last_state, leaving = {}, score(now), nil, nil
  end

  local function of_plugin(plugin)
    return '@' .. plugin .. ':'
  end

  -- Where the members stand that a class gets by this call.
  local function members_of(state, keep, plugin)
    local rest = (plugin and of_plugin(plugin) or '') .. score(keep)
    local of_state = by_keep[state] or {}
    by_keep[state] = of_state
    if of_state[rest] then
      return of_state[rest]
    end
    local class = CLASS_OF[state] .. rest
    local members = writes.list('ZADD', CLASS_KEY .. class)
    of_state[rest] = members
    if call('ZCARD', members[2]) == 0 then
      writes.pair('ZADD', FINALS, score(now + keep), class)
    end
    writes.knows(members[2])
    return members
  end

  -- Puts a job among those of a state that are kept for so long, and of a plugin if it is counted among its own.
  function finals.add(id, state, keep, plugin)
    if state ~= last_state or keep ~= last_keep or plugin ~= last_plugin then
      last_members = members_of(state, keep, plugin)
      last_state, last_keep, last_plugin, last_count = state, keep, plugin, #last_members
    end
    local members, n = last_members, last_count
    members[n + 1], members[n + 2] = finished_at, id
    last_count = n + 2
  end

  -- The same for a job of a flow, with this mark.
  function finals.add_of_flow(id, mark, state, keep, plugin)
    local class = CLASS_OF[state] .. OF_FLOWS .. (plugin and of_plugin(plugin) or '') .. score(keep)
    if call('ZCARD', CLASS_KEY .. class) == 0 then
      writes.pair('ZADD', FINALS, score(now + keep), class)
    end
    writes.knows(CLASS_KEY .. class)
    writes.pair('ZADD', CLASS_KEY .. class, finished_at, id)
    flows.ended(id, mark, state)
  end

  function finals.is_of_flows(class)
    return string.find(class, ':' .. OF_FLOWS, 1, true) ~= nil
  end

  -- Makes a job final whose run is a table.
  function finals.finish(id, run, state, keep)
    run.state, run.finished_at, run.cancel = state, now, 0
    local key = run.places[UNIQUE_KEY]
    if key then
      unique.free(key, id)
    end
    if run.places[FLOW] then
      finals.add_of_flow(id, run.places[FLOW], state, keep)
    else
      finals.add(id, state, keep)
    end
  end

  -- The classes of a state that hold a job, of a plugin alone if one is named.
  function finals.classes_of(state, plugin)
    local classes = {}
    local prefix, part = CLASS_OF[state], plugin and ':' .. of_plugin(plugin)
    for _, class in ipairs(call('ZRANGE', FINALS, 0, -1)) do
      if sub(class, 1, #prefix) == prefix and (not part or string.find(class, part, 1, true)) then
        classes[#classes + 1] = class
      end
    end
    return classes
  end

  -- The state of a class; nothing if it is none of jobs.
  function finals.state_of(class)
    for of_state, prefix in pairs(CLASS_OF) do
      if sub(class, 1, #prefix) == prefix then
        return of_state
      end
    end
  end

  -- The plugin whose jobs a class is of; nothing if it is of those of any.
  function finals.plugin_of(class)
    return string.match(class, ':@([^:]*):')
  end

  function finals.keep_of(class)
    return tonumber(string.match(class, '%d+$'))
  end

  -- Says when the first job of a class is to be removed, which finished at this time; false if none is left.
  function finals.first_is(class, time)
    if time then
      writes.pair('ZADD', FINALS, score(time + finals.keep_of(class)), class)
    else
      writes.value('ZREM', FINALS, class)
    end
  end

  -- Takes a job out of the class in which it is.
  function finals.leave(id, state)
    for _, class in ipairs(finals.classes_of(state)) do
      if call('ZSCORE', CLASS_KEY .. class, id) then
        leaving = leaving or {}
        leaving[class] = leaving[class] or {}
        leaving[class][id] = true
        writes.value('ZREM', CLASS_KEY .. class, id)
      end
    end
  end

  -- Completes what was gathered of jobs that leave their classes.
  function finals.finish_leaving()
    for class, gone in pairs(leaving or {}) do
      local count = 0
      for _ in pairs(gone) do
        count = count + 1
      end
      local first = call('ZRANGE', CLASS_KEY .. class, 0, count, 'WITHSCORES')
      local n = 1
      while first[n] and gone[first[n]] do
        n = n + 2
      end
      finals.first_is(class, first[n + 1])
    end
  end

  -- When the first job is to be removed; math.huge if there is none.
  function finals.first_removal()
    local classes = call('ZRANGE', FINALS, 0, 1, 'WITHSCORES')
    local n = classes[1] == state.CLASS and 3 or 1
    return tonumber(classes[n + 1]) or huge
  end
end
