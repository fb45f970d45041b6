-- Hands out leases on ready jobs.
--
-- asked      { ttl, { queue, how many at most, and so on by turns }, how many suspects at most, how many bytes of payload at
--              most, the tenant's fuel quota: false, or { for the minute, for the day, as bytes } past which nothing is handed
--              out, each false if there is none, who asks: false, or { id of the daemon, number of the ask, whether it is asked
--              again }, { queue, kind, how many at most, and by turns with these the name of a limit and how many jobs may be
--              leased under it, both false without one, and the name of a rate limit, microseconds between two of its tokens and
--              how many may be taken at once, all false without one: of each lane } }
-- returns    { when there is something to sweep, in milliseconds from now, or nil, ids of jobs that can't be read and were
--              passed over, leases: of each its id, number, attempts, expiries and faults, and the bytes of the job; nothing if
--              there is no quota, or else { now, fuel spent this minute, fuel spent today }; how often a lane has come or gone;
--              the time of the call; microseconds until there are tokens again of the first rate limit that has none left, or nil }
--
-- What a daemon was handed out last is in a STRING at `asked:<daemon>`, for as long as it may hold: the number of its ask, whether all
-- jobs had their first lease, and of each lease the id, and the number if it isn't so.

local lease

do
  local LEASE_HEAD = '>I6I4I4I4' -- between the id and the bytes of the job in what is returned
  local ASKED, ASKED_BYTES = '>I8B', 9
  local ID_BYTES = 26
  local TOKEN, TOKEN_BYTES = '>c26I6', 32

  local ASKED_MIN = 60 * 1000 -- for so many milliseconds at least a daemon may ask again
  local CHUNK = 64 -- members of a lane that are read at a time
  local MOVES_MAX = 500 -- jobs that are moved to their lanes by one call

  -- Jobs that are found: their ids, and the limits under which they are leased. Where there are lanes of kinds, the lane of each;
  -- where there are none, the parts of the ids that come from one lane: { lane, place of the first, place of the last, whether
  -- the lane has no more }.
  local ids, limits, lane_of_each, parts
  local rates_of_each -- the rate limits of which they take tokens, where there are lanes of kinds

  -- How many jobs of which lane of a kind may be handed out, by name: { room, limits or false, rate limit or false }; and how many
  -- under which limit.
  local rooms, free
  local has_lanes -- whether there are lanes of kinds
  local fair_scores -- by id: queue and score of the jobs that are found in fair queues; or nothing
  local handled -- by id: whether it was found or moved, where there are lanes of kinds
  local moves

  -- Lanes of which less was found than is asked for, and lanes that hold more than that, if that matters to anybody; or nothing.
  local short, left_over
  local has_waiters

  local function note_short(lane)
    short = short or {}
    short[lane] = true
  end

  local function note_left_over(lane)
    if has_waiters then
      left_over = left_over or {}
      left_over[lane] = true
    end
  end

  -- Finds up to so many of the first jobs in a lane, of a fair queue if it is named. Returns how many, and whether there are more.
  local function find_in(lane, most, given, queue)
    local from = given[lane] or 0
    local found
    if queue then
      found = {}
      local members = call('ZRANGE', READY_KEY .. lane, score(from), score(from + most), 'WITHSCORES')
      for k = 1, #members, 2 do
        found[#found + 1] = members[k]
        fair_scores[members[k]] = { queue, tonumber(members[k + 1]) }
      end
    else
      found = call('ZRANGE', READY_KEY .. lane, score(from), score(from + most))
    end
    local count, n = #found, #ids
    local is_all = count <= most
    if not is_all then
      found[count], count = nil, most
    end
    if n == 0 then
      ids = found
    else
      for k = 1, count do
        ids[n + k] = found[k]
      end
    end
    if count > 0 then
      parts[#parts + 1] = { lane, n + 1, n + count, is_all }
    end
    given[lane] = from + count
    return count, not is_all
  end

  -- Reads on in a lane; its `id` is nothing when there is nothing more.
  local function advance(source)
    repeat
      source.at = source.at + 2
      if source.at > #source.members then
        source.members = call('ZRANGE', source.key, score(source.offset), score(source.offset + CHUNK - 1), 'WITHSCORES')
        source.offset, source.at = source.offset + CHUNK, 1
      end
      source.id, source.text = source.members[source.at], source.members[source.at + 1]
      source.score = source.id and tonumber(source.text)
    until not source.id or not handled[source.id]
  end

  local function open(lane, name, fair_queue)
    local source = { lane = lane, name = name, fair_queue = fair_queue, key = READY_KEY .. lane, members = {}, at = 0, offset = 0 }
    advance(source)
    return source
  end

  -- The source with the first job; nothing if none has any.
  local function first_of(sources)
    local first
    for _, source in ipairs(sources) do
      -- In a fair queue, several may have the same place.
      if source.id and (not first or source.score < first.score or (source.score == first.score and source.id < first.id)) then
        first = source
      end
    end
    return first
  end

  -- Takes room for a job in the lane of a kind; says whether there was any.
  local function take_room(name)
    local room = rooms[name]
    if not room or room[1] == 0 then
      return false
    end
    local under = room[2]
    for k = 1, under and #under or 0 do
      if free[under[k]] <= 0 then
        return false
      end
    end
    if room[3] and not rates.take(room[3]) then
      return false
    end
    room[1] = room[1] - 1
    for k = 1, under and #under or 0 do
      free[under[k]] = free[under[k]] - 1
    end
    return true
  end

  local function hand(source, room)
    local n = #ids + 1
    lane_of_each[n], ids[n], limits[n] = source.lane, source.id, room and room[2] or false
    rates_of_each[n] = room and room[3] or false
    handled[source.id] = true
    if source.fair_queue then
      fair_scores[source.id] = { source.fair_queue, source.score }
    end
  end

  -- Whether a kind is split off in a queue. One that is held back, or of which few may be leased, is from now on.
  local function is_split(queue, kind)
    local is = lanes.is_split(queue, kind)
    if not is and (holds.cover(queue, kind) or holds.probes(kind)) then
      lanes.note(queue, kind)
      is = true
    end
    return is
  end

  -- Finds up to so many of the first jobs of a queue and its lanes that are asked for, in one order. Jobs of kinds that are split
  -- off are moved to their lanes on the way. Returns how many.
  local function find_in_order(queue, names, suffix, most)
    local fair_queue = fair_scores and fair.is(queue) and queue
    local sources = { open(queue .. suffix, false, fair_queue) }
    for _, name in ipairs(names) do
      sources[#sources + 1] = open(name .. suffix, name, fair_queue)
    end
    local count = 0
    while count < most and moves < MOVES_MAX do
      local source = first_of(sources)
      if not source then
        break
      end
      local name = source.name
      if not name then
        local _, _, _, _, kind = jobs.head(source.id)
        -- One that can't be read is put aside where it would be handed out.
        name = kind and is_split(queue, kind) and lanes.name(queue, kind)
      end
      if not name then
        hand(source)
        count = count + 1
      elseif take_room(name) then
        hand(source, rooms[name])
        count = count + 1
      elseif source.name then
        source.id, source.members = nil, {} -- it has no more room
      else
        waiting.move(source.id, source.text, source.lane, name .. suffix)
        handled[source.id] = true
        moves = moves + 1
      end
      if source.id then
        advance(source)
      end
    end
    for _, source in ipairs(sources) do
      if source.id then
        note_left_over(source.lane)
      end
    end
    if moves >= MOVES_MAX then
      writes.wake() -- there may be others behind those that were moved
    end
    return count
  end

  -- The same; `names` is false where there are no lanes of kinds.
  local function find_in_queue(queue, names, suffix, most, given)
    if names then
      return find_in_order(queue, names, suffix, most)
    end
    return find_in(queue .. suffix, most, given, fair_scores and fair.is(queue) and queue)
  end

  -- Takes in that so many jobs more of a queue and its lanes could have been handed out.
  local function note_room(queue, names)
    note_short(queue)
    for _, name in ipairs(names or {}) do
      if rooms[name][1] > 0 then
        note_short(name)
      end
    end
  end

  -- Finds the first jobs of the queues: of each as many suspects as may be, and then others.
  local function find(queues, suspects, names_of)
    ids, parts = {}, {}
    fair_scores = fair.is_used() and {} or nil
    if has_lanes then
      limits, rates_of_each, lane_of_each, handled, moves = {}, {}, {}, {}, 0
    end
    short, left_over, has_waiters = nil, nil, tally.may_have_waiters()
    local given = {}
    local has_suspects = suspects > 0 and tally.may_have_suspects()
    for n = 1, #queues, 2 do
      local queue, most = queues[n], queues[n + 1]
      local names = has_lanes and (names_of[queue] or {})
      if has_suspects and most > 0 and suspects > 0 then
        local found = find_in_queue(queue, names, SUSPECTS, min(most, suspects), given)
        most, suspects = most - found, suspects - found
      end
      if most > 0 then
        local found, has_more = find_in_queue(queue, names, '', most, given)
        most = most - found
        if has_more then
          note_left_over(queue)
        end
      elseif queues[n + 1] > 0 then
        note_left_over(queue) -- perhaps: the suspects took all the room
      end
      if most > 0 then
        note_room(queue, names_of[queue])
      end
    end
  end

  -- Takes in which lanes are asked for. Returns their names, by queue.
  local function read_lanes(list)
    local names_of = {}
    rooms, free = {}, {}
    for n = 1, #list, 8 do
      local queue, kind, room, limit, most, rate = unpack(list, n, n + 5)
      local name = lanes.name(queue, kind)
      lanes.note(queue, kind)
      if not rooms[name] and not holds.cover(queue, kind) then
        local under, probes = limit and { limit }, holds.probes(kind)
        for k = 1, probes and #probes or 0, 2 do
          under = under or {}
          under[#under + 1] = probes[k]
          free[probes[k]] = free[probes[k]] or probes[k + 1] - places.count(probes[k])
        end
        rooms[name] = { room, under or false, rate }
        names_of[queue] = names_of[queue] or {}
        table.insert(names_of[queue], name)
      end
      if limit then
        free[limit] = most - places.count(limit)
      end
      if rate then
        rates.know(rate, list[n + 6], list[n + 7])
      end
    end
    has_lanes = tally.lanes() > 0 or holds.has_kinds()
    return names_of
  end

  -- How many of the jobs that were found have no more than so many bytes of payload together; the first one always. To look at
  -- each takes time, and most tenants have no payload that is long enough for that to matter.
  local function fit_into(bytes)
    local count = #ids
    local _, _, longest = tally.waiting()
    if count * longest <= bytes then
      return count
    end
    local sum = 0
    for n = 1, count do
      local _, _, _, length = jobs.head(ids[n])
      sum = sum + (length or 0)
      if sum > bytes and n > 1 then
        return n - 1
      end
    end
    return count
  end

  -- Takes the first so many of the jobs that were found out of their lanes, with a command for each lane. ZPOPMIN would do the
  -- same, and make text of their scores, which nobody asks for.
  local function take(count)
    if has_lanes then
      for n = 1, count do
        waiting.leave_lane(ids[n], lane_of_each[n])
      end
      return
    end
    for n = 1, #parts do
      local lane, first, last, is_all = unpack(parts[n])
      if first > count then
        break
      end
      local key = READY_KEY .. lane
      local ranks = writes.list('ZREMRANGEBYRANK', key)
      ranks[3], ranks[4] = '0', score(min(last, count) - first)
      writes.knows(key)
      if is_all and last <= count then
        writes.value('SREM', QUEUES, lane)
        writes.end_sequence()
      end
    end
  end

  -- The lane of a job that was found, by its place.
  local function lane_of(n)
    for _, part in ipairs(parts) do
      if n <= part[3] then
        return part[1]
      end
    end
    return lane_of_each[n]
  end

  -- Of the unique key of a job that starts: the key if the end of the job frees it, or else false.
  local function key_after_start(id, job, unique_key)
    local rule = jobs.rule(job)
    if rule and rule.ends == UNTIL_STARTED then
      unique.free_early(unique_key, id)
    end
    return (not rule or rule.ends == UNTIL_SETTLED) and unique_key
  end

  -- The run that a job has now that it is leased, and what a lease says of it; nothing if the job or its run can't be read, and
  -- false if it doesn't wait any more: an earlier version, which knows of no lanes, has cancelled it and left it in one.
  local function lease_of(id, job, packed)
    local priority, _, unique_key = jobs.read(job)
    if not priority then
      return nil
    end
    if not packed then
      local run = runs.new(unique_key and key_after_start(id, job, unique_key), jobs.mark(job))
      run.state, run.lease, run.leased_at = LEASED, 1, now
      return runs.pack(run), pack_bytes(LEASE_HEAD, 1, 0, 0, 0)
    end
    local is, cancel, attempts, expiries, held, _, finished_at = runs.head(packed)
    local tail = is and sub(packed, RUN_HEAD_BYTES + 1)
    local places = is and runs.open(tail)
    if not places then
      return nil
    end
    if is ~= READY then
      return false
    end
    local run = pack_bytes(WHOLE_RUN, LEASED, cancel, attempts, expiries, held + 1, now, finished_at, tail)
    return run, pack_bytes(LEASE_HEAD, held + 1, attempts, expiries, runs.faults_in(places))
  end

  -- Most jobs of a call begin alike behind the time at which they were enqueued: how the latest plain one did, up to where its
  -- payload begins.
  local start_before, payload_at_before

  -- Whether a job may run on any revision and has no unique key; and then how many bytes stand before its payload.
  local function is_plain(job)
    if byte(job) ~= ANY_REVISION then
      return false
    end
    if sub(job, JOB_START_AT, payload_at_before) == start_before then
      return true, payload_at_before
    end
    local high, low = byte(job, UNIQUE_AT, UNIQUE_AT + 1)
    if high ~= 0 or low ~= 0 then
      return false
    end
    payload_at_before = jobs.payload_at(job)
    start_before = sub(job, JOB_START_AT, payload_at_before)
    return true, payload_at_before
  end

  -- Tells of a job that is leased: its bytes, and those of its run.
  local function tell_of(id, job, run)
    local _, queue = jobs.read(job)
    local _, _, attempts = runs.head(run)
    events.add(EVENT_STARTED, id, queue, jobs.kind_of(job), jobs.group_of(job), attempts + 1)
  end

  -- Hands out the first so many of the jobs that were found, and no more than so many bytes of payload: an earlier version, which
  -- keeps no tally, may have stored longer ones than that knows of. Returns the leases, the ids of jobs that can't be read, the ids
  -- of the leased ones if all of them have their first lease, or else false, and how many jobs all of them are. With `are_fresh` it
  -- is taken that what has no run has nothing else in its place, and `writes.commit` will tell.
  local function hand_out(count, ttl, bytes, are_fresh)
    local names = {}
    for n = 1, count do
      names[2 * n - 1], names[2 * n] = JOB_KEY .. ids[n], RUN_KEY .. ids[n]
    end
    -- The run and the lease of a job that was never leased before and has no unique key, as most: they all get the same.
    local first_run = pack_bytes(WHOLE_RUN, LEASED, 0, 0, 0, 1, now, 0, EMPTY_TAIL)
    local first_lease = pack_bytes(LEASE_HEAD, 1, 0, 0, 0)
    local stored = are_fresh and reads.values(names) or reads.strings(names)
    local runs_there, r = nil, 1
    local runs_new, f = are_fresh and writes.fresh() or writes.own_strings(), 1
    local leases, leased, l = {}, {}, 0
    local unreadable_ids, first_count = {}, 0
    local gone, length, has_limits = 0, 0, has_lanes and next(limits) ~= nil -- or rate limits
    local are_told = events.are_wanted()
    start_before, payload_at_before = nil, 0
    for n = 1, count do
      local id, job, packed = ids[n], stored[2 * n - 1], stored[2 * n]
      local is_first, payload_at = false, nil
      if job and not packed then
        is_first, payload_at = is_plain(job)
      end
      local run, head = first_run, first_lease
      if not is_first then
        if not job and call('EXISTS', names[2 * n - 1]) == 1 then
          job = reads.ALIEN
        end
        run, head = lease_of(id, job, packed)
        payload_at = run ~= nil and jobs.payload_at(job)
      end
      if run and l > 0 and length + #job - payload_at > bytes then
        count = n - 1
        break
      elseif run then
        l = l + 1
        if packed then
          runs_there = runs_there or writes.own_strings()
          runs_there[r + 1], runs_there[r + 2] = names[2 * n], run
          r = r + 2
        else
          runs_new[f + 1], runs_new[f + 2] = names[2 * n], run
          f = f + 2
        end
        if is_first then
          first_count = first_count + 1
        end
        leases[l], leased[l] = id .. head .. job, id
        if are_told then
          tell_of(id, job, run)
        end
        gone, length = gone + 1, length + #job - payload_at
        if fair_scores and fair_scores[id] then
          fair.leased(fair_scores[id][1], fair_scores[id][2])
        end
        if has_limits and limits[n] then
          places.take(id, limits[n])
        end
        if has_limits and rates_of_each[n] then
          rates.count(rates_of_each[n])
        end
      elseif run == false then
        gone, length = gone + 1, length + #job - payload_at
      else
        unreadable_ids[#unreadable_ids + 1] = id
        if job then
          parking.park(id, lane_of(n))
        end
      end
    end
    -- Ids mostly rise. The other way round each finds its place first among those that expire at the same time, and the
    -- search of a small ZSET, which is from its start, is short.
    local expiries, expires = writes.list('ZADD', LEASES), score(now + ttl)
    for n = 1, l do
      expiries[2 * n + 1], expiries[2 * n + 2] = expires, leased[l + 1 - n]
    end
    if gone > 0 then
      tally.went(gone, length)
    end
    return leases, unreadable_ids, first_count == l and leased, count
  end

  -- Puts the daemon that asks among those who wait for what it got too little of, and takes it out where it asks for nothing.
  -- Passes the wake on to another where jobs are left, so that a burst of them brings in as many daemons as there is work for.
  local function tell_waiters(daemon, queues, names_of)
    for lane in pairs(left_over or {}) do
      waiters.tell_one(lane, daemon)
    end
    if not daemon then
      return
    end
    for lane in pairs(short or {}) do
      waiters.wait(lane, daemon)
    end
    if not has_waiters then
      return
    end
    for n = 1, #queues, 2 do
      if queues[n + 1] == 0 then
        waiters.leave(queues[n], daemon)
        for _, name in ipairs(names_of[queues[n]] or {}) do
          waiters.leave(name, daemon)
        end
      end
    end
  end

  local function asked_key(daemon)
    return PREFIX .. 'asked:' .. daemon
  end

  -- Remembers what a daemon is handed out, and in which order.
  local function remember(daemon, number, ttl, leases, first_ones)
    local tokens = first_ones
    if not tokens then
      tokens = {}
      for n = 1, #leases do
        tokens[n] = sub(leases[n], 1, TOKEN_BYTES)
      end
    end
    local values = writes.list('SET', asked_key(daemon))
    values[3], values[4] = pack_bytes(ASKED, number, first_ones and 1 or 0) .. table.concat(tokens), 'PX'
    values[5] = score(max(2 * ttl, ASKED_MIN))
  end

  -- Of what was handed out by an ask before: the keys of the jobs and their runs by turns, and the numbers of the leases; nothing if
  -- there was no such ask.
  local function recall(daemon, number)
    local stored = call('GET', asked_key(daemon))
    if not stored or #stored < ASKED_BYTES then
      return nil
    end
    local asked_then, are_first = unpack_bytes(ASKED, stored)
    if asked_then ~= number then
      return nil
    end
    local names, numbers = {}, {}
    local step = are_first == 1 and ID_BYTES or TOKEN_BYTES
    for at = ASKED_BYTES + 1, #stored - step + 1, step do
      local id, held = sub(stored, at, at + ID_BYTES - 1), 1
      if are_first == 0 then
        id, held = unpack_bytes(TOKEN, stored, at)
      end
      local n = #names
      names[n + 1], names[n + 2], numbers[#numbers + 1] = JOB_KEY .. id, RUN_KEY .. id, held
    end
    return names, numbers
  end

  -- What was handed out by an ask before, as far as it still holds; nothing if there was no such ask.
  local function handed_out_by(daemon, number, ttl)
    local names, numbers = recall(daemon, number)
    if not names then
      return nil
    end
    local values = reads.strings(names)
    local leases, expiries, expires = {}, writes.list('ZADD', LEASES), score(now + ttl)
    for n = 1, #numbers do
      local job, packed = values[2 * n - 1], values[2 * n]
      local is, _, attempts, expired, held = runs.head(packed)
      local places = is == LEASED and held == numbers[n] and runs.open(sub(packed, RUN_HEAD_BYTES + 1))
      if places and jobs.read(job) then
        local id, e = id_of(names[2 * n]), #expiries
        leases[#leases + 1] = id .. pack_bytes(LEASE_HEAD, held, attempts, expired, runs.faults_in(places)) .. job
        expiries[e + 1], expiries[e + 2] = expires, id
      end
    end
    return leases
  end

  -- Whether the fuel that is spent reaches a bound, both as bytes; no bound is never reached.
  local function reaches(spent, bound)
    if not bound then
      return false
    end
    local high, low = unpack_bytes('>I4I4', spent)
    local bound_high, bound_low = unpack_bytes('>I4I4', bound)
    return high > bound_high or (high == bound_high and low >= bound_low)
  end

  -- Returns what `lease` does; nothing if something was in the place of a run, and none was to be.
  local function attempt(are_fresh)
    local ttl, queues, suspects, bytes, quota, asker, lane_asks = unpack(asked)
    -- If there were so many, there may be more of them, which nobody is to get.
    local is_behind = starting.expire() == SWEEP_MAX
    writes.start()
    waiting.start()
    lanes.start()
    places.start()
    holds.start()
    rates.start()
    unique.start()
    events.start()
    fair.start()
    local names_of = read_lanes(lane_asks)
    queues = holds.without_held(queues)
    local due, expiry = reads.first_score(SCHEDULE), reads.first_score(LEASES)
    writes.knows(LEASES)
    local spent, is_held = {}, holds.cover_all()
    if quota then
      local of_minute, of_day = accounts.fuel_spent()
      spent = { now, of_minute, of_day }
      is_held = is_held or reaches(of_minute, quota[1]) or reaches(of_day, quota[2])
    end
    local leases = asker and asker[3] and handed_out_by(asker[1], asker[2], ttl)
    local unreadable_ids, is_again, first_ones = {}, leases, false
    if not leases and (is_held or is_behind) then
      leases = {}
    elseif not leases then
      find(queues, suspects, names_of)
      if #ids == 0 then
        leases = {}
      else
        local count = fit_into(bytes)
        leases, unreadable_ids, first_ones, count = hand_out(count, ttl, bytes, are_fresh and 2 * count <= SLICE)
        take(count)
        for n = count + 1, #ids do
          note_left_over(lane_of(n))
        end
      end
      tell_waiters(asker and asker[1], queues, names_of)
    end
    if #leases > 0 then
      expiry = min(expiry, now + ttl)
      if asker then
        remember(asker[1], asker[2], ttl, leases, first_ones)
      end
    end
    local next_token = rates.finish()
    lanes.finish()
    unique.finish()
    fair.finish()
    waiting.finish_and_wake()
    events.finish()
    tally.finish()
    if not writes.commit() then
      return nil
    end
    if is_again then
      -- The first lease to run out may be one that was prolonged.
      expiry = reads.first_score(LEASES)
    end
    local next_time = is_behind and now or min(due, expiry, holds.first_end(), starting.first())
    local next_due = next_time < huge and min(max(next_time - now, 0), 2 ^ 53) or false
    if tally.may_have_settled() then
      next_due = 0
    end
    return { next_due, unreadable_ids, leases, spent, tally.lanes(), now, next_token }
  end

  function lease()
    return attempt(true) or attempt(false)
  end
end
