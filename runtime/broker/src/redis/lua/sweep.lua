-- Makes ready what is due, takes back what has expired, and removes what was kept long enough; a bounded number of each.
-- Each of the three is written before the next is decided.

local sweep

do
  local left_undone, buried, unreadable_ids

  -- Members of a ZSET with a score up to now, at most so many.
  local function overdue(key, most)
    local members = call('ZRANGE', key, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
    writes.knows(key)
    left_undone = left_undone or #members == most
    if #members > 0 then
      writes.pair('ZREMRANGEBYRANK', key, 0, #members - 1)
    end
    return members
  end

  local function promote(most)
    for _, member in ipairs(overdue(SCHEDULE, most)) do
      if #member > 27 then
        waiting.make_ready(sub(member, 1, 26), byte(member, 27), sub(member, 28))
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

  local function take_back_one(id, packed, limits)
    local run = runs.read(packed)
    local priority, queue = jobs.head(id)
    if not run or not priority then
      put_off(id)
      return false
    end
    run.expiries, run.lease = run.expiries + 1, run.lease + 1
    if run.expiries > limits.expiries_max then
      run.places[WHY] = limits.why_buried
      finals.finish(id, run, DEAD, limits.keep_dead)
      buried[#buried + 1] = id
    elseif run.cancel == 1 then
      run.places[WHY] = WHY_CANCELLED
      finals.finish(id, run, CANCELLED, limits.keep_cancelled)
    else
      run.state = READY
      waiting.make_ready(id, priority, queue)
    end
    runs.save(id, run)
    return true
  end

  local function take_back(limits)
    local ids = overdue(LEASES, limits.most)
    local names = {}
    for n, id in ipairs(ids) do
      names[n] = RUN_KEY .. id
    end
    local taken_back = {}
    for n, packed in ipairs(reads.strings(names)) do
      if not packed then
        unreadable_ids[#unreadable_ids + 1] = ids[n]
      elseif take_back_one(ids[n], packed, limits) then
        taken_back[#taken_back + 1] = ids[n]
      end
    end
    parking.forget(taken_back)
  end

  local function remove_jobs(class, most)
    local key = CLASS_KEY .. class
    local ids = call('ZRANGE', key, '-inf', now - finals.keep_of(class), 'BYSCORE', 'LIMIT', 0, most)
    writes.knows(key)
    for _, id in ipairs(ids) do
      writes.remove(JOB_KEY .. id)
      writes.remove(RUN_KEY .. id)
      writes.remove(LOG_KEY .. id)
    end
    if #ids > 0 then
      writes.pair('ZREMRANGEBYRANK', key, 0, #ids - 1)
    end
    finals.first_is(class, call('ZRANGE', key, #ids, #ids, 'WITHSCORES')[2])
    return #ids
  end

  local function remove_of(class, most)
    if class == state.CLASS then
      local count = state.remove(most)
      state.finish()
      return count
    end
    if finals.keep_of(class) then
      return remove_jobs(class, most)
    end
    -- A later version's.
    writes.pair('ZADD', FINALS, score(now + parking.PUT_OFF), class)
    return 0
  end

  local function remove(most)
    while most > 0 do
      local first = call('ZRANGE', FINALS, 0, 0, 'WITHSCORES')
      if not first[2] or tonumber(first[2]) > now then
        return
      end
      writes.start()
      state.start()
      writes.knows(FINALS)
      most = most - remove_of(first[1], most)
      writes.commit()
    end
    left_undone = true
  end

  -- `limits`: most jobs in each of the three; most expiries, why a job with more is buried, keep of the dead and of the
  -- cancelled. Returns the queues that held no job before, whether a bound left something, the ids of the buried, and those of
  -- jobs that can't be read.
  function sweep(limits)
    left_undone, buried, unreadable_ids = false, {}, {}
    writes.start()
    waiting.start()
    finals.start()
    unique.start()
    promote(limits.most)
    take_back(limits)
    unique.finish()
    local were_empty = waiting.finish()
    writes.commit()
    remove(limits.most)
    return were_empty, left_undone, buried, unreadable_ids
  end
end
