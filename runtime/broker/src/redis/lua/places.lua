-- Limits that hold for the whole fleet: how many jobs may be leased at once under one name. A job that is leased under limits has
-- places: an entry of the HASH `places`, with the names of the limits and blanks between them, and a member of each ZSET `in:<limit>`,
-- by when it was leased.
-- A SET at `limits` names the limits that have ever had one.

local places = {}

do
  local CHECKED_MAX = 50 -- of a limit, at a time

  local left -- whether somebody has left a place

  function places.start()
    left = false
  end

  local function places_key()
    return PREFIX .. 'places'
  end

  local function limits_key()
    return PREFIX .. 'limits'
  end

  local function members_key(limit)
    return PREFIX .. 'in:' .. limit
  end

  -- How many jobs are leased under a limit.
  function places.count(limit)
    return call('ZCARD', members_key(limit))
  end

  -- Of each limit the name, and how many jobs are leased under it, by turns. A producer's user may not look.
  function places.all()
    local counts = {}
    if redis.acl_check_cmd('SMEMBERS', limits_key()) then
      for _, limit in ipairs(call('SMEMBERS', limits_key())) do
        counts[#counts + 1] = limit
        counts[#counts + 1] = places.count(limit)
      end
    end
    return counts
  end

  function places.take(id, limits)
    writes.pair('HSET', places_key(), id, table.concat(limits, ' '))
    for _, limit in ipairs(limits) do
      writes.pair('ZADD', members_key(limit), score(now), id)
      writes.value('SADD', limits_key(), limit)
    end
  end

  local function leave(id, limits)
    writes.value('HDEL', places_key(), id)
    for limit in string.gmatch(limits, '%S+') do
      writes.value('ZREM', members_key(limit), id)
    end
    left = true
  end

  -- Says that these jobs are leased no more, which stand in a list from this place on.
  function places.leave(ids, from)
    if #ids < from or tally.lanes() == 0 then
      return
    end
    for first = from, #ids, SLICE do
      local last = min(first + SLICE - 1, #ids)
      local limits = call('HMGET', places_key(), unpack(ids, first, last))
      for n = first, last do
        if limits[n - first + 1] then
          leave(ids[n], limits[n - first + 1])
        end
      end
    end
  end

  -- Tells of room that there may be now for jobs that wait in lanes of kinds.
  function places.tell_of_room()
    local filled = left and lanes.with_jobs() or {}
    local is_told = #filled == 0
    for _, lane in ipairs(filled) do
      is_told = waiters.tell_one(lane) or is_told
    end
    if not is_told then
      writes.wake()
    end
  end

  -- Looks whether those who have had their places for the longest time still hold leases.
  function places.heal()
    for _, limit in ipairs(call('SMEMBERS', limits_key())) do
      local ids = call('ZRANGE', members_key(limit), 0, CHECKED_MAX - 1)
      for _, id in ipairs(ids) do
        if not call('ZSCORE', LEASES, id) then
          leave(id, limit)
        end
      end
      if #ids == 0 then
        writes.value('SREM', limits_key(), limit)
      end
    end
  end
end
