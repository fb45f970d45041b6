-- Jobs that wait: those that are ready, in lanes, and those that are scheduled.
--
-- A lane is a ZSET at `ready:<lane>`: each score is made of the priority and a number in the order of becoming ready, or in a fair
-- queue the job's place, which others may have as well. The
-- number starts over when no lane holds a job any more, so a score stays below 2^53, up to which a double is exact, unless
-- 2^45 jobs become ready without a pause. `queues` names the lanes that hold a job.
--
-- The members of the schedule carry what it takes to make a job ready, so that nothing else has to be read for it: id,
-- priority in a byte, and the queue's lane. They begin with the id, so jobs that are due at the same time come in order of id.

local waiting = {}

do
  local filled -- lanes that get jobs, in order of first use
  local members_of -- by lane: where its new members stand: score without its base, id, and so on by turns
  local count
  local base -- how many jobs had become ready before this call
  local last_lane, last_priority, last_members, last_count, last_base -- where the latest one was put
  local were_empty -- lanes that get jobs and held none before, or nothing
  local left -- by lane: where jobs that leave it stand, and how many there are
  local moved -- by lane: whether it gets jobs from another one
  local scheduled -- where the new members of the schedule stand
  local earliest

  function waiting.start()
    filled, members_of, count, base, last_lane = nil, nil, 0, nil, nil
    were_empty, left, moved, scheduled, earliest = nil, nil, nil, nil, huge
  end

  -- How a job stands in the schedule.
  local function member(id, priority, lane)
    return id .. char(priority) .. lane
  end

  -- When a waiting job is due, and how it stands in the schedule; false if it is ready. Earlier versions know of no lanes.
  function waiting.due_at(id, priority, queue)
    for _, lane in ipairs({ queue, queue .. SUSPECTS }) do
      local due = call('ZSCORE', SCHEDULE, member(id, priority, lane))
      if due then
        return due, member(id, priority, lane)
      end
    end
    return false
  end

  -- Says what is stored at the sequence.
  function waiting.begin_at(stored)
    base = tonumber(stored or 0)
    if not base then
      error(redis.error_reply('UNREADABLE ' .. SEQUENCE))
    end
  end

  local function members_for(lane)
    if not filled then
      filled, members_of = {}, {}
      if not base then
        waiting.begin_at(call('GET', SEQUENCE))
      end
    end
    local members = members_of[lane]
    if not members then
      members = writes.list('ZADD', READY_KEY .. lane)
      members_of[lane] = members
      filled[#filled + 1] = lane
    end
    return members
  end

  -- Puts a job into a lane that waits already.
  function waiting.put(id, priority, lane)
    if lane ~= last_lane or priority ~= last_priority then
      last_lane, last_priority, last_members = lane, priority, members_for(lane)
      last_count, last_base = #last_members, (PRIORITY_MAX - priority) * PRIORITY_STEP + base
    end
    count = count + 1
    local members, n = last_members, last_count
    members[n + 1], members[n + 2] = format('%d', last_base + count), id
    last_count = n + 2
  end

  -- Keeps a place among the jobs that become ready by this call.
  function waiting.place()
    count = count + 1
    return count
  end

  -- Puts a job at such a place into a lane.
  function waiting.put_at(place, id, priority, lane)
    local members = members_for(lane)
    local n = #members
    members[n + 1], members[n + 2] = format('%d', (PRIORITY_MAX - priority) * PRIORITY_STEP + base + place), id
    last_lane = nil
  end

  -- Puts a job of a fair queue into a lane, with its place there.
  function waiting.put_fairly(at, id, priority, lane)
    local members = members_for(lane)
    local n = #members
    members[n + 1], members[n + 2] = format('%d', (PRIORITY_MAX - priority) * PRIORITY_STEP + at), id
    last_lane = nil
  end

  -- Has the numbers go on behind this one.
  function waiting.raise(to)
    if not base then
      waiting.begin_at(call('GET', SEQUENCE))
    end
    if to > base then
      base = to
      writes.string(SEQUENCE, score(base))
    end
  end

  -- Puts a job into the schedule, to be ready in a lane after a delay.
  function waiting.schedule(id, priority, lane, delay)
    local due = now + delay
    scheduled = scheduled or writes.list('ZADD', SCHEDULE)
    local n = #scheduled
    scheduled[n + 1] = score(due)
    scheduled[n + 2] = member(id, priority, lane)
    earliest = min(earliest, due)
  end

  -- Takes a job out of the schedule, where it stands so.
  function waiting.unschedule(scheduled_as)
    writes.value('ZREM', SCHEDULE, scheduled_as)
  end

  local function has_left(lane, id)
    left = left or {}
    left[lane] = left[lane] or { writes.list('ZREM', READY_KEY .. lane), 0 }
    local of_lane = left[lane]
    of_lane[2] = of_lane[2] + 1
    of_lane[1][of_lane[2] + 2] = id
  end

  -- Takes a job out of this lane.
  function waiting.leave_lane(id, lane)
    has_left(lane, id)
  end

  -- Moves a ready job to another lane, with its score.
  function waiting.move(id, at, from, to)
    has_left(from, id)
    writes.pair('ZADD', READY_KEY .. to, at, id)
    moved = moved or {}
    moved[to] = true
  end

  -- The lane in which a job is ready, and its score there; nothing if it is in none.
  local function lane_of(id, queue, kind)
    for _, lane in ipairs(lanes.all_of(queue, kind)) do
      local at = call('ZSCORE', READY_KEY .. lane, id)
      if at then
        return lane, tonumber(at)
      end
    end
  end

  -- Takes a job out of the lane in which it is ready.
  function waiting.leave(id, queue, kind)
    local lane = lane_of(id, queue, kind)
    if lane then
      has_left(lane, id)
    end
  end

  -- Gives another priority to a ready job, which keeps its place among those that have the same; in a fair queue it gets one as if it
  -- came now.
  function waiting.rank(id, queue, kind, before, priority, group)
    local lane, at = lane_of(id, queue, kind)
    if lane and fair.is(queue) then
      local place = fair.next(queue, priority, group)
      writes.pair('ZADD', READY_KEY .. lane, format('%d', (PRIORITY_MAX - priority) * PRIORITY_STEP + place), id)
    elseif lane then
      writes.pair('ZADD', READY_KEY .. lane, format('%d', at + (before - priority) * PRIORITY_STEP), id)
    end
  end

  function waiting.is_of_suspects(lane)
    return sub(lane, -#SUSPECTS) == SUSPECTS
  end

  local function fill(lane)
    local key = READY_KEY .. lane
    if call('ZCARD', key) == 0 then
      writes.value('SADD', QUEUES, lane)
      were_empty = were_empty or {}
      were_empty[#were_empty + 1] = lane
      if waiting.is_of_suspects(lane) then
        tally.has_suspects()
      end
    end
    writes.knows(key)
  end

  local function finish_ready()
    for _, lane in ipairs(filled) do
      fill(lane)
    end
    writes.string(SEQUENCE, score(base + count))
  end

  local function is_filled(lane)
    return (members_of and members_of[lane]) or (moved and moved[lane])
  end

  local function finish_left()
    for lane, of_lane in pairs(left) do
      if call('ZCARD', READY_KEY .. lane) == of_lane[2] and not is_filled(lane) then
        writes.value('SREM', QUEUES, lane)
        writes.end_sequence()
      end
      writes.knows(READY_KEY .. lane)
    end
    for lane in pairs(moved or {}) do
      fill(lane)
    end
  end

  -- Tells of lanes that held no job one who waits for each, and everybody if nobody does.
  local function tell_of_jobs()
    for _, lane in ipairs(were_empty) do
      if not waiters.tell_one(lane) then
        return writes.wake()
      end
    end
  end

  -- Completes what was gathered, and tells the listeners if that is news to them: there is a job where there was none, or the
  -- earliest due time is now earlier, which all have to know.
  function waiting.finish_and_wake()
    if filled then
      finish_ready()
    end
    if left then
      finish_left()
    end
    local is_earlier = false
    if scheduled then
      is_earlier = earliest < reads.first_score(SCHEDULE)
      writes.knows(SCHEDULE)
    end
    if is_earlier then
      writes.wake()
    elseif were_empty then
      tell_of_jobs()
    end
  end
end
