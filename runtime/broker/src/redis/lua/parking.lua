-- Jobs that this version can't read: a later one wrote them, or something has damaged them. They are named in the ZSET
-- `unreadable`, by when that was found, and nothing of them is changed. Ready ones would be in the way of the others, so
-- they are moved to a ZSET at `parked:<queue>`, with their score, and tried again when their queue has nothing else.

local parking = {}

do
  local NAMED_MAX = 1000 -- no more are named
  local TRIED_MAX = 100 -- at a time
  local TRIED_FOR = 60 * 1000 -- the same ones for so long, in milliseconds; then the next ones

  local function parked_key(queue)
    return PREFIX .. 'parked:' .. queue
  end

  local function unreadable_key()
    return PREFIX .. 'unreadable'
  end

  -- What can't be read, and is in order of time, is looked at again after so many milliseconds.
  parking.PUT_OFF = 60 * 60 * 1000

  function parking.name(id)
    if call('ZCARD', unreadable_key()) < NAMED_MAX then
      writes.pair('ZADD', unreadable_key(), score(now), id)
    end
  end

  -- Takes back that these can't be read.
  function parking.forget(ids)
    if #ids > 0 and call('EXISTS', unreadable_key()) == 1 then
      for _, id in ipairs(ids) do
        writes.value('ZREM', unreadable_key(), id)
      end
    end
  end

  -- Moves a ready job out of the way. The caller takes it out of its queue.
  function parking.park(id, queue)
    writes.pair('ZADD', parked_key(queue), call('ZSCORE', READY_KEY .. queue, id), id)
    parking.name(id)
  end

  local function can_be_read(id)
    local packed = reads.try('GET', RUN_KEY .. id)
    return jobs.head(id) and (not packed or runs.read(packed))
  end

  -- Puts parked jobs of a queue back that can be read by now; says whether there were any.
  function parking.put_back(queue)
    local parked, ready = parked_key(queue), READY_KEY .. queue
    local count = call('ZCARD', parked)
    if count == 0 then
      return false
    end
    local first = floor(now / TRIED_FOR) * TRIED_MAX % count
    local members = call('ZRANGE', parked, first, first + TRIED_MAX - 1, 'WITHSCORES')
    local found = false
    for n = 1, #members, 2 do
      if can_be_read(members[n]) then
        writes.pair('ZADD', ready, members[n + 1], members[n])
        writes.value('ZREM', parked, members[n])
        writes.value('ZREM', unreadable_key(), members[n])
        found = true
      end
    end
    if found and call('SISMEMBER', QUEUES, queue) == 0 then
      writes.value('SADD', QUEUES, queue)
    end
    return found
  end
end
