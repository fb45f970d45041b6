-- Removes jobs of a tenant, and then values of state, whatever becomes of them.
--
-- keys[2..]  `state:<plugin>:<key>` of values to be removed once no job is left
-- asked      { how many jobs and values at most, how many values are named }
-- returns    { how many jobs and values are left, how many more could have been removed }

local purge

do
  local room

  -- Takes up to so many ids out of a ZSET.
  local function take(key, ids)
    local members = room > 0 and call('ZRANGE', key, 0, room - 1) or {}
    for _, member in ipairs(members) do
      writes.value('ZREM', key, member)
      ids[#ids + 1] = sub(member, 1, 26)
    end
    room = room - #members
    return call('ZCARD', key) - #members
  end

  function purge()
    local values
    room, values = unpack(asked)
    writes.start()
    unique.start()
    state.start()
    lanes.start()
    groups.start()
    tally.start()
    places.start()
    flows.start()
    local ids = {}
    local left = take(SCHEDULE, ids) + take(LEASES, ids)
    local in_line, left_in_line = groups.take(room)
    room, left = room - #in_line, left + left_in_line
    for _, id in ipairs(in_line) do
      ids[#ids + 1] = id
    end
    -- The others of those that are blocked wait for jobs of their flows.
    local left_of_flows = call('ZCARD', BLOCKED_KEY) - #in_line - left_in_line
    if room > 0 and left_of_flows > 0 then
      local is_in_line = {}
      for _, id in ipairs(in_line) do
        is_in_line[id] = true
      end
      for _, id in ipairs(call('ZRANGE', BLOCKED_KEY, 0, #in_line + room - 1)) do
        if room > 0 and not is_in_line[id] then
          writes.value('ZREM', BLOCKED_KEY, id)
          writes.remove(flows.open_key(id))
          ids[#ids + 1] = id
          room, left_of_flows = room - 1, left_of_flows - 1
        end
      end
    end
    left = left + max(left_of_flows, 0)
    for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
      local left_there = take(READY_KEY .. lane, ids)
      left = left + left_there
      if left_there == 0 then
        writes.value('SREM', QUEUES, lane)
      end
    end
    for _, lane in ipairs(parking.lanes()) do
      left = left + take(parking.key_of(lane), ids)
    end
    for _, class in ipairs(call('ZRANGE', FINALS, 0, -1)) do
      if class ~= state.CLASS then
        local left_there = take(CLASS_KEY .. class, ids)
        left = left + left_there
        if left_there == 0 then
          writes.value('ZREM', FINALS, class)
        end
      end
    end
    local of_flows = {}
    for _, id in ipairs(ids) do
      local _, queue, unique_key, _, _, group, mark = jobs.head(id)
      groups.drop(id, queue, group)
      if mark then
        of_flows[#of_flows + 1] = id
        flows.removed(id, mark, (runs.head(reads.try('GET', RUN_KEY .. id))))
      end
      unique_key = unique_key and jobs.key_freed_at_end(id, unique_key)
      if unique_key then
        unique.free(unique_key, id)
      end
      writes.remove(JOB_KEY .. id)
      writes.remove(RUN_KEY .. id)
      writes.remove(LOG_KEY .. id)
    end
    parking.forget(ids)
    places.leave(ids, 1)
    if left == 0 then
      values = min(values, room)
      room = room - values
      left = state.remove_values(FIXED_KEYS + 1, FIXED_KEYS + values)
      if left == 0 then
        lanes.give_up_all()
        holds.forget_all()
        tally.correct(0, false)
        tally.note_starting(false)
        tally.note_events(false)
        writes.remove(STARTING)
        groups.drop_all()
        fair.drop_all()
        writes.remove(PREFIX .. 'rates')
        flows.drop_all()
        for _, id in ipairs(of_flows) do
          writes.remove(flows.after_key(id))
        end
      end
    else
      left = left + state.count()
    end
    unique.finish()
    state.finish()
    lanes.finish()
    tally.finish()
    writes.commit()
    return { left, room }
  end
end
