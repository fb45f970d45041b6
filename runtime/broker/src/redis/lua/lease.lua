-- Makes ready what is due, takes back what has expired, removes what was kept long enough, and hands out leases.
--
-- asked      { ttl, most expiries, why a job with more is buried, most jobs in each of the three sweeps, keep of the
--              dead, keep of the cancelled, { queue, how many at most, and so on by turns }, the tenant's fuel quota:
--              false, or { for the minute, for the day, as bytes } past which nothing is handed out, each false if there is none }
-- keys[7..]  `ready:<queue>` of each queue that is asked for
-- returns    { when to ask again in milliseconds or nil, ids of the buried, ids of jobs that can't be read and
--              were passed over, leases: of each its id, number, attempts, and the bytes of the job; nothing if there is no
--              quota, or else { now, fuel spent this minute, fuel spent today } }

local lease

do
  local LEASE_HEAD = '>I6I4' -- between the id and the bytes of the job in what is returned: number and attempts

  -- Of each queue that is asked for: its name, its first ids, and whether there are no others.
  local function first_ready(queues)
    local found, given = {}, {}
    for n = 1, #queues, 2 do
      local queue, most = queues[n], queues[n + 1]
      local from = given[queue] or 0
      local key = READY_KEY .. queue
      local ids = call('ZRANGE', key, score(from), score(from + most))
      writes.knows(key)
      local is_all = #ids <= most
      ids[most + 1] = nil
      given[queue] = from + #ids
      found[#found + 1] = { queue, ids, is_all }
    end
    return found
  end

  local function put_back(found)
    local is_back = false
    for _, of_queue in ipairs(found) do
      is_back = of_queue[3] and parking.put_back(of_queue[1]) or is_back
    end
    return is_back
  end

  -- Takes the jobs out of their queues, with a command for each. ZPOPMIN would do the same, and make text of their scores,
  -- which nobody asks for. Says which queues are empty then.
  local function take(found)
    local counts, emptied = {}, {}
    for _, of_queue in ipairs(found) do
      local queue, ids, is_all = unpack(of_queue)
      counts[queue] = (counts[queue] or 0) + #ids
      emptied[queue] = is_all
    end
    for queue, count in pairs(counts) do
      if count > 0 then
        local ranks = writes.list('ZREMRANGEBYRANK', READY_KEY .. queue)
        ranks[1], ranks[2] = '0', score(count - 1)
        if emptied[queue] then
          writes.value('SREM', QUEUES, queue)
          writes.end_sequence()
        end
      end
    end
    return emptied
  end

  -- The run that a job has now that it is leased, the number of the lease and the attempts so far; nothing if the job
  -- or its run can't be read.
  local function lease_of(job, packed)
    local priority, _, unique_key = jobs.read(job)
    if not priority then
      return nil
    end
    if not packed then
      local run = runs.new(unique_key)
      run.state, run.lease, run.leased_at = LEASED, 1, now
      return runs.pack(run), 1, 0
    end
    local state_before, cancel, attempts, expiries, held, _, finished_at = runs.head(packed)
    local tail = state_before and sub(packed, RUN_HEAD_BYTES + 1)
    if not state_before or (tail ~= EMPTY_TAIL and not runs.open(tail)) then
      return nil
    end
    local head = pack_bytes(RUN_HEAD, LEASED, cancel, attempts, expiries, held + 1, now, finished_at)
    return head .. tail, held + 1, attempts
  end

  local function is_plain(job)
    local layout, high, low = byte(job, 1), byte(job, 9, 10)
    return (layout == ANY_REVISION or layout == PINNED) and high == 0 and low == 0
  end

  -- Hands out the jobs that were found. Returns the leases, and the ids of jobs that can't be read.
  local function hand_out(found, ttl)
    local names, queue_of, k = {}, {}, 0
    for _, of_queue in ipairs(found) do
      local ids = of_queue[2]
      for n = 1, #ids do
        names[k + 1], names[k + 2] = JOB_KEY .. ids[n], RUN_KEY .. ids[n]
        queue_of[k + 1] = of_queue[1]
        k = k + 2
      end
    end
    -- The run and the lease of a job that was never leased before and has no unique key, as most: they all get the same.
    local first_run = pack_bytes(RUN_HEAD, LEASED, 0, 0, 0, 1, now, 0) .. EMPTY_TAIL
    local first_lease = pack_bytes(LEASE_HEAD, 1, 0)
    local stored = reads.strings(names)
    local strings, s, l = writes.own_strings(), 0, 0
    local leases, leased, unreadable_ids = {}, {}, {}
    for n = 1, k, 2 do
      local id, job, packed = id_of(names[n]), stored[n], stored[n + 1]
      if not packed and job and job ~= reads.ALIEN and is_plain(job) then
        strings[s + 1], strings[s + 2] = names[n + 1], first_run
        leases[l + 1], leased[l + 1] = id .. first_lease .. job, id
        s, l = s + 2, l + 1
      else
        local run, number, attempts = lease_of(job, packed)
        if run then
          strings[s + 1], strings[s + 2] = names[n + 1], run
          leases[l + 1], leased[l + 1] = id .. pack_bytes(LEASE_HEAD, number, attempts) .. job, id
          s, l = s + 2, l + 1
        else
          unreadable_ids[#unreadable_ids + 1] = id
          if job then
            parking.park(id, queue_of[n])
          end
        end
      end
    end
    -- Ids mostly rise. The other way round each finds its place first among those that expire at the same time, and the
    -- search of a small ZSET, which is from its start, is short.
    local expiries, expires = writes.list('ZADD', LEASES), score(now + ttl)
    for n = 1, l do
      expiries[2 * n - 1], expiries[2 * n] = expires, leased[l + 1 - n]
    end
    return leases, unreadable_ids
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

  local function add_all(list, more)
    for _, value in ipairs(more) do
      list[#list + 1] = value
    end
  end

  function lease()
    local ttl, expiries_max, why_buried, most, keep_dead, keep_cancelled, queues, quota = unpack(asked)
    local due, expiry = reads.first_score(SCHEDULE), reads.first_score(LEASES)
    local were_empty, left_undone, buried, unreadable_ids = {}, false, {}, {}
    if min(due, expiry, reads.first_score(FINALS)) <= now then
      were_empty, left_undone, buried, unreadable_ids = sweep({
        most = most, expiries_max = expiries_max, why_buried = why_buried, keep_dead = keep_dead,
        keep_cancelled = keep_cancelled,
      })
      due, expiry = reads.first_score(SCHEDULE), reads.first_score(LEASES)
    end

    local spent, is_held = {}, false
    if quota then
      local of_minute, of_day = accounts.fuel_spent()
      spent = { now, of_minute, of_day }
      is_held = reaches(of_minute, quota[1]) or reaches(of_day, quota[2])
    end

    writes.start()
    writes.knows(LEASES)
    local leases, emptied = {}, {}
    if not is_held then
      local found = first_ready(queues)
      if put_back(found) then
        writes.commit()
        writes.start()
        found = first_ready(queues)
      end
      local passed_over
      leases, passed_over = hand_out(found, ttl)
      emptied = take(found)
      left_undone = left_undone or #passed_over > 0
      add_all(unreadable_ids, passed_over)
    end
    for _, queue in ipairs(were_empty) do
      if not emptied[queue] then
        writes.wake()
        break
      end
    end
    writes.commit()

    if #leases > 0 then
      expiry = min(expiry, now + ttl)
    end
    local next = min(due, expiry)
    local ask_at = next < huge and min(max(next - now, 0), 2 ^ 53) or false
    return { left_undone and 0 or ask_at, buried, unreadable_ids, leases, spent }
  end
end
