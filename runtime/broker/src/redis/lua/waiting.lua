-- Jobs that wait: those that are ready, in queues, and those that are scheduled.
--
-- A queue is a ZSET at `ready:<queue>`: each score is made of the priority and a number in the order of becoming ready.
-- The number starts over when no queue holds a job any more, so a score stays below 2^53, up to which a double is exact,
-- unless 2^45 jobs become ready without a pause.
--
-- The members of the schedule carry what it takes to make a job ready, so that nothing else has to be read for it. They
-- begin with the id, so jobs that are due at the same time come in order of id.

local PRIORITY_MAX = 255
local PRIORITY_STEP = 2 ^ 45

local waiting = {}

do
  local queues -- those that get jobs, in order of first use
  local members_of -- by queue: where its new members stand: score without its base, id, and so on by turns
  local count
  local last_queue, last_members, last_count -- where the latest one was put
  local were_empty -- queues that held no job before
  local scheduled -- where the new members of the schedule stand
  local earliest

  function waiting.start()
    queues, members_of, count, were_empty, scheduled, earliest = nil, nil, 0, {}, nil, huge
    last_queue = nil
  end

  -- How a job stands in the schedule.
  function waiting.member(id, priority, queue)
    return id .. char(priority) .. queue
  end

  -- When a waiting job is due; false if it is ready.
  function waiting.due_at(id, priority, queue)
    return call('ZSCORE', SCHEDULE, waiting.member(id, priority, queue))
  end

  local function members_for(queue)
    if not queues then
      queues, members_of = {}, {}
    end
    local members = members_of[queue]
    if not members then
      members = writes.list('ZADD', READY_KEY .. queue)
      members_of[queue] = members
      queues[#queues + 1] = queue
    end
    return members
  end

  function waiting.make_ready(id, priority, queue)
    if queue ~= last_queue then
      last_queue, last_members = queue, members_for(queue)
      last_count = #last_members
    end
    count = count + 1
    last_members[last_count + 1] = (PRIORITY_MAX - priority) * PRIORITY_STEP + count
    last_members[last_count + 2] = id
    last_count = last_count + 2
  end

  function waiting.schedule(id, priority, queue, delay)
    local due = now + delay
    scheduled = scheduled or writes.list('ZADD', SCHEDULE)
    local n = #scheduled
    scheduled[n + 1], scheduled[n + 2] = score(due), waiting.member(id, priority, queue)
    earliest = min(earliest, due)
  end

  -- Makes a job ready after a delay, or at once.
  function waiting.add(id, priority, queue, delay)
    if delay == 0 then
      waiting.make_ready(id, priority, queue)
    else
      waiting.schedule(id, priority, queue, delay)
    end
  end

  local function finish_ready()
    local base = tonumber(call('GET', SEQUENCE) or 0)
    if not base then
      error(redis.error_reply('UNREADABLE ' .. SEQUENCE))
    end
    for _, queue in ipairs(queues) do
      local members = members_of[queue]
      for n = 1, #members, 2 do
        members[n] = score(members[n] + base)
      end
      if call('SISMEMBER', QUEUES, queue) == 0 then
        writes.value('SADD', QUEUES, queue)
        were_empty[#were_empty + 1] = queue
      end
    end
    writes.knows(QUEUES)
    writes.string(SEQUENCE, score(base + count))
  end

  -- Completes what was gathered. Returns the queues that were empty before, and whether the earliest due time is now earlier.
  function waiting.finish()
    if count > 0 then
      finish_ready()
    end
    local is_earlier = false
    if scheduled then
      is_earlier = earliest < reads.first_score(SCHEDULE)
      writes.knows(SCHEDULE)
    end
    return were_empty, is_earlier
  end

  -- Completes what was gathered, and tells the listeners if that is news to them.
  function waiting.finish_and_wake()
    local queues_woken, is_earlier = waiting.finish()
    if #queues_woken > 0 or is_earlier then
      writes.wake()
    end
  end

  -- Takes a job out of its queue.
  function waiting.leave(id, queue)
    local key = READY_KEY .. queue
    if not call('ZSCORE', key, id) then
      return
    end
    writes.value('ZREM', key, id)
    if call('ZCARD', key) == 1 then
      writes.value('SREM', QUEUES, queue)
      writes.end_sequence()
    end
  end
end
