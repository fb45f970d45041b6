-- The census of queues: how many jobs of each wait or are leased, and since when the oldest ready one has waited.
--
-- asked    { the queue behind which the page starts, or '', how many queues at most, up to how many scheduled jobs are counted by
--          queue, up to how many blocked ones, and as many leased ones }
-- returns  { the time, { { queue, ready, scheduled, blocked, leased, since when } of each }, whether there are more }; a number is
--          nothing if there are too many to count
--
-- Ready jobs are counted by their lanes. The others are together in one ZSET for all queues: to keep them apart as well would cost
-- each job something, so they are counted as far as that takes no time.

local queue_list

do
  local function count_in(counts, queue)
    counts[queue] = (counts[queue] or 0) + 1
  end

  -- How many scheduled jobs there are, by queue; nothing if there are more than so many.
  local function count_scheduled(most)
    if call('ZCARD', SCHEDULE) > most then
      return nil
    end
    local counts = {}
    for _, member in ipairs(call('ZRANGE', SCHEDULE, 0, -1)) do
      local queue = string.match(member, '^%S+', 28) -- behind the id and the priority
      if queue then
        count_in(counts, queue)
      end
    end
    return counts
  end

  -- How many of the jobs in a ZSET of ids there are, by queue; nothing if there are more than so many.
  local function count_by_job(key, most)
    if call('ZCARD', key) > most then
      return nil
    end
    local counts = {}
    for _, id in ipairs(call('ZRANGE', key, 0, -1)) do
      local bytes = reads.try('GETRANGE', JOB_KEY .. id, 0, JOB_HEAD_BYTES_MAX - 1)
      local _, queue = jobs.read(bytes)
      if queue then
        count_in(counts, queue)
      end
    end
    return counts
  end

  -- Since when a job has waited: it was enqueued then, or last leased. Nothing if it can't be read.
  local function since(id)
    local job = reads.try('GETRANGE', JOB_KEY .. id, 0, 6)
    if #job < 7 then
      return nil
    end
    local _, enqueued_at = unpack_bytes('>BI6', job)
    local run = reads.try('GETRANGE', RUN_KEY .. id, 0, RUN_HEAD_BYTES - 1)
    local is, _, _, _, _, leased_at = runs.head(run)
    return is and max(enqueued_at, leased_at) or enqueued_at
  end

  -- How many jobs are ready in these lanes of a queue, and since when the oldest of those has waited that are the first ones of
  -- their priority.
  local function ready_in(names)
    local count, first, oldest = 0, {}, nil
    for _, lane in ipairs(names) do
      local key, from = READY_KEY .. lane, '-inf'
      count = count + call('ZCARD', key)
      repeat
        local id, at = unpack(call('ZRANGE', key, from, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'))
        if id then
          at = tonumber(at)
          local rank = floor(at / PRIORITY_STEP)
          local known = first[rank]
          if not known or at < known[1] or (at == known[1] and id < known[2]) then
            first[rank] = { at, id }
          end
          from = score((rank + 1) * PRIORITY_STEP)
        end
      until not id
    end
    for _, one in pairs(first) do
      local at = since(one[2])
      oldest = at and min(at, oldest or huge) or oldest
    end
    return count, oldest
  end

  -- A number of jobs of a queue, or false if they aren't counted.
  local function number_of(counts, queue)
    return counts and (counts[queue] or 0)
  end

  function queue_list()
    local after, most, scheduled_max, looked_up_max = unpack(asked)
    local lanes_of, names = {}, {}
    local function name(queue)
      if not lanes_of[queue] and queue > after then
        lanes_of[queue], names[#names + 1] = {}, queue
      end
      return lanes_of[queue]
    end
    for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
      local of_queue = name(string.match(lane, '^%S+'))
      if of_queue then
        of_queue[#of_queue + 1] = lane
      end
    end
    local counts = {
      count_scheduled(scheduled_max) or false,
      count_by_job(BLOCKED_KEY, looked_up_max) or false,
      count_by_job(LEASES, looked_up_max) or false,
    }
    for _, by_queue in ipairs(counts) do
      for queue in pairs(by_queue or {}) do
        name(queue)
      end
    end
    table.sort(names)
    local list = {}
    for n = 1, min(#names, most) do
      local queue = names[n]
      local ready, oldest = ready_in(lanes_of[queue])
      local scheduled, blocked, leased =
        number_of(counts[1], queue), number_of(counts[2], queue), number_of(counts[3], queue)
      list[n] = { queue, ready, scheduled, blocked, leased, oldest or false }
    end
    return { now, list, #names > most and 1 or 0 }
  end
end
