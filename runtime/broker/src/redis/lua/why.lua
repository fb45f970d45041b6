-- Looks up what a job waits for.
--
-- keys[2..]  `job:<id>`, `run:<id>`
-- asked      nothing
-- returns    nothing if there is no such job, or else { now, how many jobs go before it, fuel spent this minute, fuel spent today,
--            the holds that cover it, as in holds.lua, what of breakers does, likewise, its kind, names of limits and how many jobs are leased under each, by turns,
--            names of rate limits and when all their tokens are there, by turns, turns of its group, as in groups.lua, or false }

local why

do
  -- How many members a ZSET has with a lower score, counted up to so many.
  local function count_before(key, at, most)
    return #call('ZRANGE', key, '-inf', '(' .. at, 'BYSCORE', 'LIMIT', '0', score(most))
  end

  -- How many jobs of its queue go before a ready job that isn't held back: first suspects, then the others.
  local function count_ahead(id, queue, kind)
    local at, is_suspect
    for _, lane in ipairs(lanes.all_of(queue, kind)) do
      at = call('ZSCORE', READY_KEY .. lane, id)
      if at then
        is_suspect = waiting.is_of_suspects(lane)
        break
      end
    end
    local count = 0
    for _, lane in ipairs(at and call('SMEMBERS', QUEUES) or {}) do
      local of_suspects = waiting.is_of_suspects(lane)
      local name = of_suspects and sub(lane, 1, -#SUSPECTS - 1) or lane
      local of_queue, of_kind = string.match(name, '^(%S+) ?(%S*)$')
      if of_queue == queue and not holds.cover(queue, of_kind) then
        local left = AHEAD_COUNTED_MAX - count
        if of_suspects == is_suspect then
          count = count + count_before(READY_KEY .. lane, at, left)
        elseif of_suspects then
          count = count + min(call('ZCARD', READY_KEY .. lane), left)
        end
      end
    end
    return count
  end

  function why()
    local id = id_of(keys[FIXED_KEYS + 1])
    tally.start()
    lanes.start()
    holds.start()
    groups.start()
    local job = reads.try('GET', JOB_KEY .. id)
    if not job then
      return false
    end
    local priority, queue = jobs.read(job)
    if not priority then
      return unreadable(id)
    end
    local kind = jobs.kind_of(job)
    local of_minute, of_day = accounts.fuel_spent()
    local ahead = holds.cover(queue, kind) and 0 or count_ahead(id, queue, kind)
    return { now, ahead, of_minute, of_day, holds.list(queue, kind), holds.gates(kind), kind, places.all(),
      rates.all(), groups.turns_of(id, priority, queue, kind, jobs.group_of(job)) }
  end
end
