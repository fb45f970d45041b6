-- Sets the rules of queues for groups, or lets a held group go on.
--
-- asked    { queue, turns of a group, whether it is strict, whether a dead job holds its group, whether it has the rest cancelled,
--            by turns, for all queues with turns },
--            false, { queue, { key of a group, its weight, by turns }, by turns, for all fair queues }; or { queue, key of the group }
--            and true
-- returns  how many dead jobs have held the group; 0 for rules

local group_rules

do
  -- The jobs of a queue that are ready, in order, at most so many: { id, priority, where it stands, lane }.
  local function ready_in(queue)
    local found = {}
    for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
      if lane == queue or sub(lane, 1, #queue + 1) == queue .. ' ' then
        local members = call('ZRANGE', READY_KEY .. lane, 0, GROUPED - 1, 'WITHSCORES')
        for n = 1, #members, 2 do
          found[#found + 1] = { id = members[n], at = tonumber(members[n + 1]), lane = lane }
        end
      end
    end
    table.sort(found, function(a, b)
      if a.at ~= b.at then
        return a.at < b.at
      end
      return a.id < b.id
    end)
    return found
  end

  -- Holds the jobs of a queue to its first rule.
  local function hold_to(queue)
    for _, id in ipairs(call('ZRANGE', LEASES, 0, GROUPED - 1)) do
      local _, of, _, _, _, key = jobs.head(id)
      if key and of == queue then
        groups.count_in(id, queue, key)
      end
    end
    for n, job in ipairs(ready_in(queue)) do
      if n > GROUPED then
        break
      end
      local priority, _, _, _, kind, key = jobs.head(job.id)
      local expiries = waiting.is_of_suspects(job.lane) and 1 or 0
      if key and not groups.count_in_or_hold_back(job.id, priority, queue, kind, expiries, key) then
        waiting.leave_lane(job.id, job.lane)
      end
    end
  end

  -- Gives places to the ready jobs of a queue that has become fair, from the first one's on.
  local function give_places(queue)
    local latest
    for n, job in ipairs(ready_in(queue)) do
      if n > GROUPED then
        break
      end
      local above = floor(job.at / PRIORITY_STEP)
      local priority, at = PRIORITY_MAX - above, job.at - above * PRIORITY_STEP
      if priority ~= latest then
        latest = priority
        fair.begin_at(queue, priority, at - 1)
      end
      local _, _, _, _, _, group = jobs.head(job.id)
      local place = above * PRIORITY_STEP + fair.next(queue, priority, group)
      writes.pair('ZADD', READY_KEY .. job.lane, format('%d', place), job.id)
    end
  end

  -- Says which queues are fair and which aren't any more, where what is ready keeps its place before all that comes.
  local function set_fair(list)
    local before, wanted = fair.queues(), {}
    for n = 1, #list, 2 do
      wanted[list[n]] = true
    end
    for queue in pairs(before) do
      local highest = not wanted[queue] and fair.close(queue)
      if highest and #ready_in(queue) > 0 then
        waiting.raise(highest)
      end
    end
    if next(before) ~= nil then
      fair.unset_all()
    end
    tally.note_fair(#list > 0)
    return before
  end

  -- Writes the rules of the fair queues.
  local function write_fair(list, before)
    for n = 1, #list, 2 do
      fair.set(list[n], list[n + 1])
    end
    for n = 1, #list, 2 do
      if not before[list[n]] then
        give_places(list[n])
      end
    end
  end

  local function set(list)
    local wanted, limited = {}, groups.limited_queues()
    for n = 1, #list, 5 do
      wanted[list[n]] = { list[n + 1], list[n + 2], list[n + 3], list[n + 4], limited[list[n]] }
    end
    local before = groups.queues()
    for _, queue in ipairs(before) do
      if not wanted[queue] then
        groups.set_rule(queue, false)
      end
    end
    for n = 1, #list, 5 do
      local queue = list[n]
      local is_first = not groups.rule_of(queue)
      groups.set_rule(queue, wanted[queue])
      if is_first then
        hold_to(queue)
      end
    end
    return 0
  end

  function group_rules()
    writes.start()
    waiting.start()
    lanes.start()
    tally.start()
    events.start()
    groups.start()
    local count
    if asked[2] then
      count = groups.release(asked[1][1], asked[1][2])
    else
      tally.note_groups(#asked[1] > 0 or tally.has_groups())
      local before = set_fair(asked[3])
      count = set(asked[1])
      write_fair(asked[3], before)
    end
    groups.finish()
    waiting.finish_and_wake()
    events.finish()
    tally.finish()
    writes.commit()
    return count
  end
end
