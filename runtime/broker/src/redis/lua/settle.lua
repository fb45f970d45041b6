-- Records how runs ended, one after the other, each whole or not at all.
--
-- keys[2..]  `run:<id>` of each settlement, then whatever keys they refer to by their place in the keys
-- asked      { how many settlements, log lines kept, days for which usage is kept, id of the daemon that ran what is recorded of
--            attempts or false, what the batch comes to if all of it is recorded as sent: { plugin, account as in accounts.lua, by
--            turns } }
-- batch      of each settlement: lease, what, delay, how long the job is kept if this makes it final, whether it is counted then
--            among the final ones of the plugin that ran it, the tail of the run
--            as it would be if nothing had been before, log lines or nothing, effects or nothing, which of the plugins
--            ran or 0, what the run spent: an account but for its first numbers
-- effects    a MessagePack array: { place of `state:<plugin>:<key>` in the keys, value or false, by turns },
--            { place, write, value, ttl, by turns; first those that need the value that is there }, how many need that, how many
--            bytes the keys and values have at most, how many bytes and keys of state the plugin may keep, how many jobs, the
--            place of the first one's `job:<id>` in the keys, the jobs as in creation.lua, how many bytes their payloads have,
--            how many jobs may wait, and with how many bytes of payload
-- returns    for each settlement: LOST, APPLIED, TOO_MANY_BYTES or TOO_MANY_KEYS of state, TOO_MANY_JOBS or TOO_MANY_JOB_BYTES that
--            wait, UNREADABLE, or the key of the state that was in conflict

local settle

do
  local SETTLEMENT = '>I8BI8I8BI4c0I4c0I4c0I2I2' -- and what the run spent, of the length that comes last

  local JOBS_PLACE = 7 -- where the jobs begin in the effects: with how many there are

  -- Replaces places in the keys by the keys themselves.
  local function name_keys(list, step, names, count)
    for n = 1, #list, step do
      local key = keys[list[n]]
      count = count + 1
      list[n], names[count] = key, key
    end
    return count
  end

  -- The key of the first expectation that doesn't hold, or else of the first sum that can't be made. Sums are written
  -- down where the amounts were. The first so many writes need the value that is there.
  local function conflict_in(expectations, list, need_stored)
    for n = 1, #expectations, 2 do
      if state.at(expectations[n]) ~= expectations[n + 1] then
        return expectations[n]
      end
    end
    for n = 1, 4 * need_stored, 4 do
      if list[n + 1] == ADD then
        local stored, expires = state.at(list[n])
        local total = add(stored or '0', list[n + 2])
        if not total then
          return list[n]
        end
        list[n + 2], list[n + 3] = total, expires
      else
        local _, expires = state.at(list[n])
        list[n + 3] = expires
      end
    end
    return nil
  end

  -- What would wait too much of, if the run's jobs were created.
  local function excess_of(count, length, jobs_max, bytes_max)
    local jobs_now, bytes_now = tally.waiting()
    if jobs_now + count > jobs_max then
      return TOO_MANY_JOBS
    end
    return length > 0 and bytes_now + length > bytes_max and TOO_MANY_JOB_BYTES or nil
  end

  -- Why effects can't be had; nothing if they can.
  local function refusal_of(effects)
    local expectations, list, need_stored, most, bytes_max, keys_max = unpack(effects)
    local count, _, _, length, jobs_max, job_bytes_max = unpack(effects, JOBS_PLACE)
    local names = {}
    name_keys(list, 4, names, name_keys(expectations, 2, names, 0))
    if not state.fetch(names) then
      return UNREADABLE
    end
    return conflict_in(expectations, list, need_stored)
      or (#list > 0 and state.excess_of(list, most, bytes_max, keys_max))
      or (count > 0 and excess_of(count, length, jobs_max, job_bytes_max))
      or nil
  end

  local daemon -- that ran what is recorded
  local totals -- what each plugin has spent by the batch: its name, and an account

  -- Whether the end of a run is recorded by itself. The success under a first lease, as most are, is told by all that is stored
  -- anyway.
  local function is_recorded(what, held)
    return what ~= SUCCEED or held > 1
  end

  -- The tail of this run on top of what earlier ones have left, the unique key or false, and the mark of a job of a flow; nothing
  -- if that can't be read.
  local function tail_after(before, tail, what, attempts, held, leased_at)
    local old = runs.open(before)
    if not old then
      return nil
    end
    local places = unpack_values(tail)
    local spent, why = places[RAN], places[HISTORY] or false
    local is_whole, ran = pcall(spending.sum, old[RAN], spent)
    if not is_whole then
      return nil
    end
    places[FAULTS], places[HISTORY] = nil, nil
    places[UNIQUE_KEY], places[RAN], places[PROGRESS] = old[UNIQUE_KEY], ran, places[PROGRESS] or old[PROGRESS]
    for place = TAIL_PLACES + 1, #old do
      places[place] = old[place]
    end
    if spent and is_recorded(what, held) then
      runs.add_attempt(places, attempts + 1, held, leased_at, why, spent, daemon)
    end
    if what == RETRY then
      runs.count_faults(places, 0)
    elseif what == RELEASE_AS_FAULT then
      runs.count_faults(places, runs.faults_in(old) + 1)
    end
    return pack_values(places), old[UNIQUE_KEY], old[FLOW]
  end

  local function as_cancelled(tail)
    local places = unpack_values(tail)
    places[WHY] = WHY_CANCELLED
    return pack_values(places)
  end

  local FINAL_STATE = { [SUCCEED] = SUCCEEDED, [BURY] = DEAD, [CANCEL_IT] = CANCELLED }
  local IS_ATTEMPT = {
    [SUCCEED] = 1, [RETRY] = 1, [BURY] = 1, [RELEASE] = 0, [RELEASE_AS_FAULT] = 0, [RELEASE_WITHOUT_PLUGIN] = 0,
    [CANCEL_IT] = 0,
  }

  local EVENT_OF = {
    [SUCCEED] = EVENT_SUCCEEDED, [RETRY] = EVENT_RETRIED, [BURY] = EVENT_DEAD, [CANCEL_IT] = EVENT_CANCELLED,
    [RELEASE] = EVENT_RELEASED, [RELEASE_AS_FAULT] = EVENT_RELEASED, [RELEASE_WITHOUT_PLUGIN] = EVENT_RELEASED,
  }

  local RELEASES = { [RELEASE] = true, [RELEASE_AS_FAULT] = true, [RELEASE_WITHOUT_PLUGIN] = true }

  local started -- ids of jobs that have started by now, if that matters to any; or nothing
  local ended, strings, settled -- what is called with leases that end, and with runs; and how many stand there
  local lines_kept

  -- Decides the settlement of this run that stands at this place of the batch. Returns the place of the next one, the answer, what
  -- this one is recorded as, or false if it isn't, and whether what was spent is as the daemon has summed it.
  local function decide(key, packed, at)
    local number, what, delay, keep, counted, tail, lines, effects, plugin, length, after =
      unpack_bytes(SETTLEMENT, batch, at)
    local next_at, has_spent, asked_for = after + length, plugin > 0, what
    local is, cancel, attempts, expiries, held, leased_at = runs.head(packed)
    if not is then
      return next_at, packed and UNREADABLE or LOST, false, not has_spent
    elseif held ~= number then
      return next_at, LOST, false, not has_spent
    elseif is ~= LEASED then
      return next_at, APPLIED, false, not has_spent -- as it was before
    end

    local id, priority, queue, kind, group, _ = sub(key, -26)
    is = FINAL_STATE[what]
    if not is and cancel == 1 then
      what, is, tail = CANCEL_IT, CANCELLED, as_cancelled(tail)
    end
    if not is or groups.are_used() or events.are_wanted() then
      priority, queue, _, length, kind, group = jobs.head(id)
      if not priority and not is then
        return next_at, UNREADABLE, false, not has_spent
      end
    end
    local before, unique_key, mark = sub(packed, RUN_HEAD_BYTES + 1), false, nil
    if before ~= EMPTY_TAIL or what == RELEASE_AS_FAULT or is_recorded(what, held) then
      tail, unique_key, mark = tail_after(before, tail, what, attempts, held, leased_at)
      if not tail then
        return next_at, UNREADABLE, false, not has_spent
      end
    end
    effects = effects ~= '' and unpack_values(effects)
    local refusal = effects and refusal_of(effects)
    if refusal then
      return next_at, refusal, false, not has_spent
    end
    if lines ~= '' and not logs.add(id, lines, lines_kept) then
      return next_at, UNREADABLE, false, not has_spent
    end

    -- Nothing can be refused from here on.
    if events.are_wanted() then
      events.add(EVENT_OF[what], id, queue, kind, group, attempts + 1, unpack_values(tail)[WHY])
    end
    local finished_at = now
    if is then
      local keeper = counted == 1 and has_spent and totals[2 * plugin - 1] or nil
      if mark then
        finals.add_of_flow(id, mark, is, keep, keeper)
      else
        finals.add(id, is, keep, keeper)
      end
      if group then
        groups.finish_job(id, queue, group, is)
      end
      if unique_key then
        unique.free(unique_key, id)
      end
    else
      is, finished_at = READY, 0
      -- An attempt that ends clears a suspect.
      if what == RETRY then
        expiries = 0
      end
      if what == RELEASE_WITHOUT_PLUGIN then
        lanes.note(queue, kind)
      end
      groups.make_wait(id, priority, queue, kind, expiries, length, delay, group)
      if unique_key then
        unique.waits(id)
      end
    end
    local s = settled + 1
    settled = s
    ended[s + 2] = id
    if started and (has_spent or not RELEASES[what]) then
      started[#started + 1] = id
    end
    strings[2 * s] = key
    strings[2 * s + 1] =
      pack_bytes(WHOLE_RUN, is, 0, attempts + IS_ATTEMPT[what], expiries, held, leased_at, finished_at, tail)
    if effects then
      local _, list = unpack(effects)
      if #list > 0 then
        state.apply(list)
      end
      local count, first, created = unpack(effects, JOBS_PLACE)
      if count > 0 then
        creation.create(created, count, first)
      end
    end
    return next_at, APPLIED, what, what == asked_for or not has_spent
  end

  -- What the runs come to that are recorded, each as it is; where nothing is recorded, it says false.
  local function spent_by(recorded)
    local list, position = {}, 1
    for n = 1, #recorded do
      local _, _, _, _, _, _, _, _, plugin, length, after = unpack_bytes(SETTLEMENT, batch, position)
      position = after + length
      if recorded[n] and plugin > 0 then
        list[#list + 1] = { totals[2 * plugin - 1], recorded[n], sub(batch, after, position - 1) }
      end
    end
    return accounts.of_runs(list)
  end

  function settle()
    local count, days_kept
    count, lines_kept, days_kept, daemon, totals = unpack(asked)
    writes.start()
    waiting.start()
    lanes.start()
    groups.start()
    tally.start()
    events.start()
    places.start()
    finals.start()
    unique.start()
    state.start()
    creation.start()
    flows.start()
    local stored = tally.read_with({ false, unpack(keys, FIXED_KEYS + 1, FIXED_KEYS + count) })
    ended, strings, settled = writes.list('ZREM', LEASES), writes.own_strings(), 0
    started = tally.may_have_starting() and {}
    local replies, recorded, are_as_summed = {}, {}, true
    local at = 1
    for n = 1, count do
      local is_as_summed
      at, replies[n], recorded[n], is_as_summed = decide(keys[FIXED_KEYS + n], stored[n + 1], at)
      are_as_summed = are_as_summed and is_as_summed
    end
    places.leave(ended, 3)
    groups.finish()
    starting.leave(started or {}, 1)
    creation.finish()
    unique.finish()
    lanes.finish()
    waiting.finish_and_wake()
    places.tell_of_room()
    events.finish()
    tally.finish()
    state.finish()
    accounts.add(are_as_summed and totals or spent_by(recorded), days_kept)
    writes.commit()
    return replies
  end
end
