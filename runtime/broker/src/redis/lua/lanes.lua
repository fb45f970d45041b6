-- Lanes: where ready jobs wait. A queue has one of its own name. A kind that is split off in a queue has one of its own there,
-- named by queue and kind; only who asks for it gets its jobs. Behind each name, SUSPECTS makes that of a lane for jobs whose lease
-- has run out since an attempt of them last ended. Names of queues and kinds have no blank.
--
-- Which kinds are split off is in a HASH at `lanes`: queue and kind, and when that was last noted to be asked for. How often one
-- has come or gone is in the tally; while that is 0 there is none.
--
-- Jobs that were ready before their kind was split off, or have become ready by the schedule, wait in the lane of the queue until
-- a lease finds them there.

local SUSPECTS = ' !'

local lanes = {}

do
  local noted -- by name: when it was noted, or false; as far as it is known
  local changed -- names of lanes, in order of the first change

  function lanes.start()
    noted, changed = {}, nil
  end

  local function lanes_key()
    return PREFIX .. 'lanes'
  end

  function lanes.name(queue, kind)
    return queue .. ' ' .. kind
  end

  local function noted_at(name)
    local at = noted[name]
    if at == nil then
      at = call('HGET', lanes_key(), name)
      noted[name] = at
    end
    return at
  end

  -- Whether a kind is split off in a queue.
  function lanes.is_split(queue, kind)
    return tally.lanes() > 0 and noted_at(lanes.name(queue, kind)) ~= false
  end

  -- The lane in which a job of this kind waits; `expiries`: how often its lease has run out since an attempt last ended.
  function lanes.of(queue, kind, expiries)
    local lane = lanes.is_split(queue, kind) and lanes.name(queue, kind) or queue
    return expiries > 0 and lane .. SUSPECTS or lane
  end

  -- All lanes in which a job may be, the likeliest first.
  function lanes.all_of(queue, kind)
    local own = lanes.name(queue, kind)
    return { queue, queue .. SUSPECTS, own, own .. SUSPECTS }
  end

  local function change(name, at)
    if not noted[name] or not at then
      tally.count_lane()
    end
    noted[name] = at
    changed = changed or {}
    changed[#changed + 1] = name
  end

  -- Splits a kind off in a queue, or notes that it was asked for.
  function lanes.note(queue, kind)
    local name = lanes.name(queue, kind)
    local at = noted_at(name)
    if not at or now - at >= LANE_NOTED_EVERY then
      change(name, now)
    end
  end

  function lanes.give_up(name)
    change(name, false)
  end

  -- All lanes of kinds: name and when it was noted, by turns.
  function lanes.all()
    return tally.lanes() > 0 and call('HGETALL', lanes_key()) or {}
  end

  function lanes.give_up_all()
    local all = lanes.all()
    for n = 1, #all, 2 do
      lanes.give_up(all[n])
    end
  end

  function lanes.finish()
    for _, name in ipairs(changed or {}) do
      if noted[name] then
        writes.pair('HSET', lanes_key(), name, score(noted[name]))
      else
        writes.value('HDEL', lanes_key(), name)
      end
    end
  end

  -- The lanes of kinds that hold a job.
  function lanes.with_jobs()
    local filled = {}
    for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
      if string.find(lane, ' [^!]') then
        filled[#filled + 1] = lane
      end
    end
    return filled
  end
end
