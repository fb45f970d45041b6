-- Fair queues: the places of their ready jobs. The rules are in `core/src/fair.rs`.
--
-- fair             HASH: fair queue -> 1 if groups of it have weights, else 0
-- weights          HASH: queue, NUL, key of a group -> its weight, where that isn't 1
-- shares:<queue>   ZSET: by score, which is made of priority and place as those of lanes: priority in a byte and the key of a group,
--                  for the last job of the group; priority in a byte and NUL, for the clock

local fair = {}

do
  local CLOCK = '\0' -- no key of a group has a control character
  local FORGOTTEN_MAX = 100 -- groups that a lease forgets beyond two for each job

  local flags -- by queue: whether it is fair and has weights, as it is stored, or false; as far as it is known
  local shares_of -- by queue: what is known of its shares, and what changes

  function fair.start()
    flags, shares_of = {}, {}
  end

  local function rules_key()
    return PREFIX .. 'fair'
  end

  local function weights_key()
    return PREFIX .. 'weights'
  end

  local function shares_key(queue)
    return PREFIX .. 'shares:' .. queue
  end

  -- Whether there may be fair queues.
  function fair.is_used()
    return tally.has_fair()
  end

  local function flag_of(queue)
    local flag = flags[queue]
    if flag == nil then
      flag = call('HGET', rules_key(), queue)
      flags[queue] = flag
    end
    return flag
  end

  -- Whether a queue is fair.
  function fair.is(queue)
    return tally.has_fair() and flag_of(queue) ~= false
  end

  local function shares(queue)
    local of = shares_of[queue]
    if not of then
      of = { key = shares_key(queue), last = {}, strides = {}, changed = nil, moved = nil, leased = 0 }
      shares_of[queue] = of
    end
    return of
  end

  local function base_of(priority)
    return (PRIORITY_MAX - priority) * PRIORITY_STEP
  end

  -- What is stored of a member, as a place; 0 if there is nothing.
  local function place_of(of, member, priority)
    local at = of.last[member]
    if not at then
      local stored = call('ZSCORE', of.key, member)
      at = stored and tonumber(stored) - base_of(priority) or 0
      of.last[member] = at
    end
    return at
  end

  local function stride_for(weight)
    return floor((FAIR_STRIDE + floor(weight / 2)) / weight)
  end

  local function stride_of(of, queue, group)
    if not group or flag_of(queue) ~= '1' then
      return FAIR_STRIDE
    end
    local stride = of.strides[group]
    if not stride then
      -- What this call sets isn't stored yet.
      stride = of.is_set and FAIR_STRIDE or stride_for(tonumber(call('HGET', weights_key(), queue .. '\0' .. group) or 1))
      of.strides[group] = stride
    end
    return stride
  end

  -- Takes the next place of a group in a fair queue; `group` is nothing for the jobs that have none.
  function fair.next(queue, priority, group)
    local of = shares(queue)
    local member = char(priority) .. (group or '')
    local clock = place_of(of, char(priority) .. CLOCK, priority)
    local at = min(max(clock, place_of(of, member, priority)) + stride_of(of, queue, group), FAIR_PLACE_MAX)
    of.last[member] = at
    of.changed = of.changed or {}
    of.changed[member] = priority
    return at
  end

  local function move_clock(of, priority, at)
    local member = char(priority) .. CLOCK
    if at > place_of(of, member, priority) then
      of.last[member] = at
      of.changed = of.changed or {}
      of.changed[member] = priority
    end
  end

  -- Says that a job was leased which had this score in its lane.
  function fair.leased(queue, at)
    local of, above = shares(queue), floor(at / PRIORITY_STEP)
    local priority = PRIORITY_MAX - above
    move_clock(of, priority, at - above * PRIORITY_STEP)
    of.moved = of.moved or {}
    of.moved[priority] = true
    of.leased = of.leased + 1
  end

  -- Has groups forgotten that are behind the clock: they go from there, as those do of which nothing is known.
  local function forget(of)
    for priority in pairs(of.moved) do
      local base, most = base_of(priority), 2 * of.leased + FORGOTTEN_MAX
      local clock = of.last[char(priority) .. CLOCK]
      local behind = call(
        'ZRANGE', of.key, score(base), score(base + clock), 'BYSCORE', 'LIMIT', '0', score(most)
      )
      for _, member in ipairs(behind) do
        if sub(member, 2) ~= CLOCK then
          writes.value('ZREM', of.key, member)
        end
      end
    end
  end

  -- Completes what was gathered.
  function fair.finish()
    for _, of in pairs(shares_of) do
      if of.moved then
        forget(of)
      end
      for member, priority in pairs(of.changed or {}) do
        writes.pair('ZADD', of.key, score(base_of(priority) + of.last[member]), member)
      end
      of.changed, of.moved = nil, nil
      writes.knows(of.key)
    end
  end

  -- The fair queues, by name.
  function fair.queues()
    local queues, all = {}, tally.has_fair() and call('HGETALL', rules_key()) or {}
    for n = 1, #all, 2 do
      queues[all[n]] = true
    end
    return queues
  end

  -- Says that a queue is fair; `weights` are keys of groups and their weights by turns.
  function fair.set(queue, weights)
    flags[queue] = #weights > 0 and '1' or '0'
    writes.pair('HSET', rules_key(), queue, flags[queue])
    local of = shares(queue)
    of.is_set, of.strides = true, {}
    for n = 1, #weights, 2 do
      of.strides[weights[n]] = stride_for(weights[n + 1])
      writes.pair('HSET', weights_key(), queue .. '\0' .. weights[n], score(weights[n + 1]))
    end
  end

  -- Says that no queue is fair, up to what is set next.
  function fair.unset_all()
    for _, key in ipairs({ rules_key(), weights_key() }) do
      local fields = call('HGETALL', key)
      for n = 1, #fields, 2 do
        writes.value('HDEL', key, fields[n])
        flags[fields[n]] = false
      end
    end
  end

  -- The highest place that was given or leased in a queue, and forgets them all.
  function fair.close(queue)
    local members, highest = call('ZRANGE', shares_key(queue), 0, -1, 'WITHSCORES'), 0
    for n = 2, #members, 2 do
      highest = max(highest, tonumber(members[n]) % PRIORITY_STEP)
    end
    writes.remove(shares_key(queue))
    return highest
  end

  -- Begins a priority of a queue that has become fair.
  function fair.begin_at(queue, priority, at)
    move_clock(shares(queue), priority, at)
  end

  -- Forgets the places that were given in queues in which nothing is ready.
  function fair.forget_idle()
    if not tally.has_fair() then
      return
    end
    local queues = fair.queues()
    tally.note_fair(next(queues) ~= nil)
    for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
      queues[string.match(lane, '^(%S+)')] = nil
    end
    for queue in pairs(queues) do
      writes.remove(shares_key(queue))
    end
  end

  -- Removes all that is kept of fair queues.
  function fair.drop_all()
    for queue in pairs(fair.queues()) do
      writes.remove(shares_key(queue))
    end
    fair.unset_all()
    tally.note_fair(false)
  end
end
