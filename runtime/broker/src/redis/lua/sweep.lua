-- Brings a tenant's jobs up to date: makes ready what is due, takes back what has expired, settles edges of flows, removes what was
-- kept long enough and what there is too much of; a bounded number of each. Each of these is written before the next is decided.
--
-- asked    { most jobs in each step, most expiries, why a job with more is buried, keep of the dead, keep of the cancelled, how
--          many that succeeded are kept, and as many that were cancelled, how many of the dead; the same two numbers of those that
--          are counted among the ones of a plugin: { plugin, how many, how many of the dead, by turns } }
-- returns  { when there is something to do again, in milliseconds from now, or nil; ids of the buried; when the next final job
--          is past its time, as well; whether any job is ready; how many jobs can't be read; ids of those found now; when the next schedule is due,
--            as the first, or nil }

local sweep

do
  local LOOKED_AT_MAX = 1000 -- jobs of a queue, for those of a lane

  local most, expiries_max, why_buried, keep_dead, keep_cancelled
  local left_undone, buried, unreadable_ids

  -- Members of a ZSET with a score up to now, at most so many, which leave it.
  local function overdue(key)
    local members = call('ZRANGE', key, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
    writes.knows(key)
    left_undone = left_undone or #members == most
    if #members > 0 then
      writes.pair('ZREMRANGEBYRANK', key, 0, #members - 1)
    end
    return members
  end

  -- Makes a job ready that is due, or has it wait in its group's line. Says whether it did.
  local function let_in_line(id, priority, lane)
    local _, queue, _, _, kind, group = jobs.head(id)
    local expiries = waiting.is_of_suspects(lane) and 1 or 0
    if group and groups.hold_back(id, priority, queue, kind, expiries, group) then
      return true
    elseif queue and fair.is(queue) then
      groups.put(id, priority, queue, kind, expiries, group)
      return true
    end
    return false
  end

  local function promote()
    for _, member in ipairs(overdue(SCHEDULE)) do
      if #member > 27 then
        local id, priority, lane = sub(member, 1, 26), byte(member, 27), sub(member, 28)
        if not ((groups.are_used() or fair.is_used()) and let_in_line(id, priority, lane)) then
          waiting.put(id, priority, lane)
        end
      else
        writes.pair('ZADD', SCHEDULE, score(now + parking.PUT_OFF), member)
      end
    end
  end

  local function put_off(id)
    writes.pair('ZADD', LEASES, score(now + parking.PUT_OFF), id)
    parking.name(id)
    unreadable_ids[#unreadable_ids + 1] = id
  end

  -- Says whether the job can be read.
  local function take_back_one(id, packed)
    local run = runs.read(packed)
    local priority, queue, _, length, kind, group = jobs.head(id)
    if not run or not priority then
      put_off(id)
      return false
    end
    runs.add_attempt(run.places, run.attempts + 1, run.lease, run.leased_at, WHY_EXPIRED, false, false)
    run.expiries, run.lease = run.expiries + 1, run.lease + 1
    local function tell(what)
      local why = what ~= EVENT_LEASE_EXPIRED and run.places[WHY]
      events.add(what, id, queue, kind, group, run.attempts + 1, why)
    end
    if run.expiries > expiries_max then
      run.places[WHY] = why_buried
      tell(EVENT_DEAD)
      finals.finish(id, run, DEAD, keep_dead)
      groups.finish_job(id, queue, group, DEAD)
      buried[#buried + 1] = id
    elseif run.cancel == 1 then
      run.places[WHY] = WHY_CANCELLED
      tell(EVENT_CANCELLED)
      finals.finish(id, run, CANCELLED, keep_cancelled)
      groups.finish_job(id, queue, group, CANCELLED)
    else
      run.state = READY
      tell(EVENT_LEASE_EXPIRED)
      groups.make_wait(id, priority, queue, kind, run.expiries, length, 0, group)
    end
    runs.save(id, run)
    return true
  end

  local function take_back()
    local ids = overdue(LEASES)
    local names, taken_back = {}, {}
    for n, id in ipairs(ids) do
      names[n] = RUN_KEY .. id
    end
    for n, packed in ipairs(reads.strings(names)) do
      if not packed then
        unreadable_ids[#unreadable_ids + 1] = ids[n]
      elseif take_back_one(ids[n], packed) then
        taken_back[#taken_back + 1] = ids[n]
      end
    end
    parking.forget(taken_back)
    places.leave(taken_back, 1)
    starting.leave(taken_back, 1)
  end

  -- How many jobs wait, and whether there are suspects among them that are ready.
  local function count_waiting()
    local count, has_suspects = call('ZCARD', SCHEDULE) + call('ZCARD', BLOCKED_KEY), false
    for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
      count = count + call('ZCARD', READY_KEY .. lane)
      has_suspects = has_suspects or waiting.is_of_suspects(lane)
    end
    return count, has_suspects
  end

  -- Moves ready jobs of a kind that is split off to its lane. Says whether there were any.
  local function move_to(lane)
    local queue, kind = string.match(lane, '^(%S+) (%S+)$')
    local found = false
    for _, suffix in ipairs({ '', SUSPECTS }) do
      local members = call('ZRANGE', READY_KEY .. queue .. suffix, 0, LOOKED_AT_MAX - 1, 'WITHSCORES')
      for n = 1, #members, 2 do
        local priority, _, _, _, is = jobs.head(members[n])
        if priority and is == kind then
          waiting.move(members[n], members[n + 1], queue .. suffix, lane .. suffix)
          found = true
        end
      end
    end
    return found
  end

  local function holds_jobs(lane)
    return call('ZCARD', READY_KEY .. lane) + call('ZCARD', READY_KEY .. lane .. SUSPECTS) > 0
  end

  -- Gives up lanes that are empty and were not asked for in a long time.
  local function give_up_lanes()
    writes.start()
    waiting.start()
    lanes.start()
    tally.start()
    local all = lanes.all()
    for n = 1, #all, 2 do
      local lane, noted = all[n], tonumber(all[n + 1])
      if now - noted >= LANE_KEPT and not holds_jobs(lane) and not move_to(lane) then
        lanes.give_up(lane)
      end
    end
    lanes.finish()
    waiting.finish_and_wake()
    tally.finish()
    writes.commit()
  end

  -- Lets in those who may be, as far as that was left to it; returns how many.
  local function let_in()
    writes.start()
    waiting.start()
    lanes.start()
    tally.start()
    events.start()
    groups.start()
    if not groups.are_used() then
      return 0
    end
    groups.heal()
    local let = groups.finish(most)
    waiting.finish_and_wake()
    tally.note_groups(groups.keeps_anything())
    events.finish()
    tally.finish()
    writes.commit()
    return let
  end

  -- Cancels those who waited behind a dead job, at most so many; returns how many.
  local function cancel_rest(dead, name, died_at, room)
    local ids, count = groups.line_behind(dead, name, room), 0
    for _, id in ipairs(ids or {}) do
      local run, priority, queue, length, kind, group = runs.of(id)
      if not run or run == reads.ALIEN or jobs.enqueued_at(id) > died_at then
        break
      end
      local why = pack_values({ REST.reason, REST.before .. dead .. REST.behind })
      cancel_waiting(id, run, priority, queue, length, kind, group, why, keep_cancelled)
      starting.leave({ id }, 1)
      count = count + 1
    end
    if count < room then
      groups.rest_is_gone(dead, name, ids)
    end
    return count
  end

  -- Does what may change how jobs stand, and writes all of it.
  local function as_a_step(work)
    writes.start()
    waiting.start()
    finals.start()
    unique.start()
    lanes.start()
    tally.start()
    groups.start()
    flows.start()
    events.start()
    work()
    groups.finish()
    unique.finish()
    waiting.finish_and_wake()
    events.finish()
    tally.finish()
    writes.commit()
  end

  -- Cancels those who waited behind dead jobs, and lets the groups go on of which none is left.
  local function cancel_rests()
    local rests, room = groups.rests(most), most
    if #rests == 0 then
      return
    end
    as_a_step(function()
      for n = 1, #rests, 2 do
        if room == 0 then
          break
        end
        room = room - cancel_rest(sub(rests[n], 1, 26), sub(rests[n], 27), tonumber(rests[n + 1]), room)
      end
    end)
  end

  local function settle_edges()
    as_a_step(function()
      flows.settle_edges(most, keep_dead, keep_cancelled)
    end)
  end

  local function remove_all(ids)
    for _, id in ipairs(ids) do
      writes.remove(JOB_KEY .. id)
      writes.remove(RUN_KEY .. id)
      writes.remove(LOG_KEY .. id)
    end
  end

  local function remove_old_of(class, room)
    local key = CLASS_KEY .. class
    local ids = call('ZRANGE', key, '-inf', now - finals.keep_of(class), 'BYSCORE', 'LIMIT', 0, room)
    writes.knows(key)
    groups.forget(ids)
    if finals.is_of_flows(class) then
      flows.all_removed(ids, finals.state_of(class))
    end
    remove_all(ids)
    if #ids > 0 then
      writes.pair('ZREMRANGEBYRANK', key, 0, #ids - 1)
    end
    finals.first_is(class, call('ZRANGE', key, #ids, #ids, 'WITHSCORES')[2])
    return #ids
  end

  -- Removes jobs and values that are past their time; returns how many jobs.
  local function remove_old()
    local removed, values = 0, 0
    while removed < most and values < most do
      local first = call('ZRANGE', FINALS, 0, 0, 'WITHSCORES')
      if not first[2] or tonumber(first[2]) > now then
        break
      end
      writes.start()
      state.start()
      tally.start()
      writes.knows(FINALS)
      local class = first[1]
      if class == state.CLASS then
        values = values + state.remove(most - values)
        state.finish()
      elseif finals.keep_of(class) then
        removed = removed + remove_old_of(class, most - removed)
      else
        -- A later version's.
        writes.pair('ZADD', FINALS, score(now + parking.PUT_OFF), class)
      end
      tally.finish()
      writes.commit()
    end
    left_undone = left_undone or values == most
    return removed
  end

  -- The oldest jobs of these classes, at most so many: of each its id, when it finished, and whether its class is of flows.
  local function oldest(classes, room)
    local found = {}
    for _, class in ipairs(classes) do
      local members = call('ZRANGE', CLASS_KEY .. class, 0, room - 1, 'WITHSCORES')
      for n = 1, #members, 2 do
        found[#found + 1] = { members[n], tonumber(members[n + 1]), finals.is_of_flows(class) }
      end
    end
    table.sort(found, function(a, b)
      if a[2] ~= b[2] then
        return a[2] < b[2]
      end
      return a[1] < b[1]
    end)
    return found
  end

  -- Removes the oldest of the jobs of a state of which there are more than are to be kept, of a plugin if one is named; returns how
  -- many.
  local function remove_surplus(of_state, kept, room, plugin)
    local classes, count = finals.classes_of(of_state, plugin), 0
    for _, class in ipairs(classes) do
      count = count + call('ZCARD', CLASS_KEY .. class)
    end
    local surplus = min(count - kept, room)
    if surplus <= 0 then
      return 0
    end
    writes.start()
    finals.start()
    tally.start()
    local ids, of_flows = {}, {}
    for n, entry in ipairs(oldest(classes, surplus)) do
      if n > surplus then
        break
      end
      ids[n] = entry[1]
      if entry[3] then
        of_flows[#of_flows + 1] = entry[1]
      end
      finals.leave(entry[1], of_state)
    end
    groups.forget(ids)
    flows.all_removed(of_flows, of_state)
    remove_all(ids)
    finals.finish_leaving()
    tally.finish()
    writes.commit()
    return #ids
  end

  local function from_now(time)
    return time < huge and min(max(time - now, 0), 2 ^ 53) or false
  end

  -- What to answer if nothing is to be done, as a few looks tell; nothing if something may be. Most sweeps find nothing, and
  -- daemons sweep all the time.
  local function idle_reply(kept_done, kept_dead, kept_of)
    local others = {
      QUEUES, BLOCKED_KEY, PREFIX .. 'fair', PREFIX .. 'gates', PREFIX .. 'holds', PREFIX .. 'lanes', PREFIX .. 'limits', PREFIX .. 'parked',
      PREFIX .. 'rules', PREFIX .. 'group_limits',
      PREFIX .. 'schedules', PREFIX .. 'unreadable', flows.settled_key(), unique.ends(), events.log_key(),
    }
    if reads.count(others) > 0 then
      return nil
    end
    tally.start()
    local due, expiry, start_by = reads.first_score(SCHEDULE), reads.first_score(LEASES), starting.first()
    local classes = call('ZRANGE', FINALS, 0, -1, 'WITHSCORES')
    local first = tonumber(classes[2]) or huge
    -- The tally may say that there are some where there are none any more.
    if tally.may_have_starting() and start_by == huge then
      return nil
    end
    if min(due, expiry, first, start_by) <= now or tally.waiting() ~= (due < huge and call('ZCARD', SCHEDULE) or 0) then
      return nil
    end
    local counts, counts_of, removal = { [SUCCEEDED] = 0, [CANCELLED] = 0, [DEAD] = 0 }, {}, huge
    for n = 1, #classes, 2 do
      local of_state = finals.state_of(classes[n])
      if of_state then
        local count, plugin = call('ZCARD', CLASS_KEY .. classes[n]), finals.plugin_of(classes[n])
        counts[of_state] = counts[of_state] + count
        if plugin then
          counts_of[plugin] = counts_of[plugin] or { [SUCCEEDED] = 0, [CANCELLED] = 0, [DEAD] = 0 }
          counts_of[plugin][of_state] = counts_of[plugin][of_state] + count
        end
        removal = min(removal, tonumber(classes[n + 1]))
      end
    end
    local function has_surplus(of, done, dead)
      return of and (of[SUCCEEDED] > done or of[CANCELLED] > done or of[DEAD] > dead)
    end
    for n = 1, #kept_of, 3 do
      if has_surplus(counts_of[kept_of[n]], kept_of[n + 1], kept_of[n + 2]) then
        return nil
      end
    end
    if has_surplus(counts, kept_done, kept_dead) then
      return nil
    end
    return { from_now(min(due, expiry, start_by)), {}, from_now(removal), 0, 0, {}, false }
  end

  -- Whether a lane holds a job that isn't held back.
  local function has_ready()
    for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
      local name = waiting.is_of_suspects(lane) and sub(lane, 1, -#SUSPECTS - 1) or lane
      local queue, kind = string.match(name, '^(%S+) ?(%S*)$')
      if not queue or not holds.cover(queue, kind) then
        return 1
      end
    end
    return 0
  end

  function sweep()
    local kept_done, kept_dead, kept_of
    most, expiries_max, why_buried, keep_dead, keep_cancelled, kept_done, kept_dead, kept_of = unpack(asked)
    left_undone, buried, unreadable_ids = false, {}, {}
    local idle = idle_reply(kept_done, kept_dead, kept_of)
    if idle then
      return idle
    end
    left_undone = starting.expire() == SWEEP_MAX
    writes.start()
    waiting.start()
    finals.start()
    unique.start()
    lanes.start()
    groups.start()
    places.start()
    flows.start()
    events.start()
    local limit_end = groups.sweep_limits()
    promote()
    take_back()
    groups.finish()
    unique.forget(overdue(unique.ends()))
    unique.finish()
    waiting.finish_and_wake()
    places.tell_of_room()
    events.finish()
    tally.finish()
    writes.commit()
    cancel_rests()
    settle_edges()

    local removed = remove_old()
    local function remove_more_than(done, dead, plugin)
      removed = removed + remove_surplus(SUCCEEDED, done, most - removed, plugin)
      removed = removed + remove_surplus(CANCELLED, done, most - removed, plugin)
      removed = removed + remove_surplus(DEAD, dead, most - removed, plugin)
    end
    for n = 1, #kept_of, 3 do
      remove_more_than(kept_of[n + 1], kept_of[n + 2], kept_of[n])
    end
    remove_more_than(kept_done, kept_dead)
    left_undone = left_undone or removed == most
    left_undone = let_in() == most or left_undone

    writes.start()
    waiting.start()
    if parking.put_back() then
      writes.wake()
    end
    writes.commit()
    give_up_lanes()
    writes.start()
    waiting.start()
    places.start()
    tally.start()
    events.start()
    events.sweep(most)
    places.heal()
    tally.correct(count_waiting())
    fair.start()
    fair.forget_idle()
    holds.sweep()
    if tally.may_have_starting() then
      tally.note_starting(call('ZCARD', STARTING) > 0)
    end
    left_undone = left_undone or tally.may_have_settled()
    places.tell_of_room()
    tally.finish()
    writes.commit()

    local next = min(reads.first_score(SCHEDULE), reads.first_score(LEASES), holds.first_end(), starting.first(), limit_end)
    local schedule = reads.first_score(PREFIX .. 'schedules')
    return {
      left_undone and 0 or from_now(next),
      buried,
      from_now(finals.first_removal()),
      has_ready(),
      parking.count(),
      unreadable_ids,
      schedule < NEVER and from_now(schedule) or false,
    }
  end
end
