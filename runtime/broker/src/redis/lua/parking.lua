-- Jobs that this version can't read: a later one wrote them, or something has damaged them. They are named in the ZSET
-- `unreadable`, by when that was found, and nothing of them is changed. Ready ones would be in the way of the others, so
-- they are moved to a ZSET at `parked:<lane>`, with their score, and tried again by sweeps. A SET at `parked` names the lanes.

local parking = {}

do
  local TRIED_MAX = 100 -- of a lane, at a time
  local LANES_MAX = 10 -- at a time
  local TRIED_FOR = 60 * 1000 -- the same ones for so long, in milliseconds; then the next ones

  -- What can't be read, and is in order of time, is looked at again after so many milliseconds.
  parking.PUT_OFF = 60 * 60 * 1000

  local function unreadable_key()
    return PREFIX .. 'unreadable'
  end

  local function lanes_key()
    return PREFIX .. 'parked'
  end

  -- Where the parked jobs of a lane are.
  function parking.key_of(lane)
    return PREFIX .. 'parked:' .. lane
  end

  -- The lanes of which jobs are parked.
  function parking.lanes()
    return call('SMEMBERS', lanes_key())
  end

  -- How many jobs can't be read.
  function parking.count()
    return call('ZCARD', unreadable_key())
  end

  function parking.name(id)
    if parking.count() < NAMED_MAX then
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

  -- Moves a ready job out of the way. The caller takes it out of its lane.
  function parking.park(id, lane)
    writes.pair('ZADD', parking.key_of(lane), call('ZSCORE', READY_KEY .. lane, id), id)
    writes.value('SADD', lanes_key(), lane)
    parking.name(id)
  end

  local function can_be_read(id)
    local packed = reads.try('GET', RUN_KEY .. id)
    return jobs.head(id) and (not packed or runs.read(packed))
  end

  local function put_back_to(lane)
    local key = parking.key_of(lane)
    local count = call('ZCARD', key)
    local first = count > TRIED_MAX and floor(now / TRIED_FOR) * TRIED_MAX % count or 0
    local members = call('ZRANGE', key, first, first + TRIED_MAX - 1, 'WITHSCORES')
    local back = {}
    for n = 1, #members, 2 do
      if can_be_read(members[n]) then
        writes.pair('ZADD', READY_KEY .. lane, members[n + 1], members[n])
        writes.value('ZREM', key, members[n])
        back[#back + 1] = members[n]
      end
    end
    parking.forget(back)
    if #back > 0 and call('SISMEMBER', QUEUES, lane) == 0 then
      writes.value('SADD', QUEUES, lane)
    end
    if #back == count then
      writes.value('SREM', lanes_key(), lane)
    end
    return #back > 0
  end

  -- Puts parked jobs back that can be read by now; says whether there were any.
  function parking.put_back()
    local found = false
    for n, lane in ipairs(parking.lanes()) do
      if n > LANES_MAX then
        break
      end
      found = put_back_to(lane) or found
    end
    return found
  end
end
