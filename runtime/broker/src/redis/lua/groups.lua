-- Groups: jobs of a queue that share a key. Where a queue has a rule for its groups, a job that is to become ready needs a turn
-- of its group first. While there is none it is blocked, and waits in its group's line. The rules are in `core/src/group.rs`.
--
-- rules    HASH: queue -> its rule, in MessagePack: { turns of a group, whether it is strict, whether a dead job holds its group,
--          whether it then has the rest of its group cancelled, whether groups of it may have limits of their own }
-- group_limits  HASH: name of the group -> its own limit, in MessagePack: { turns, whether it counts, when it ends or false, when it was
--          set, who has set it or false, a note or false }
-- turns    ZSET: the jobs that have a turn: name of the group, id
-- lines    ZSET: the jobs that wait for one: name of the group, rank in a byte, number in 6, id, priority in a byte, lane
-- blocked  ZSET: the same jobs by their numbers, which rise in the order in which they came
-- held     ZSET: the dead jobs that have a turn, as in turns, by when they died
-- rests    ZSET: those of them behind which jobs are still to be cancelled that waited in line: id, name of the group, by the same
--
-- All scores of turns and lines are 0, so the members are in order of their bytes, and those of a group are together. The name
-- of a group is queue, NUL, key, NUL: neither has a control character, so no name is the beginning of another. The lane is the
-- kind, and SUSPECTS behind it if the job is one.
--
-- What happens to groups in a call is gathered first, and who is let in by it is decided at the end of the call. That is played in
-- order, as if each had been let in at once.

local groups = {}

do
  local LINE = '>BI6c26B' -- what stands between the name and the lane
  -- What happens to a group: somebody comes into its line, gives up a turn, leaves the line, or is ready in a fair queue.
  local CAME, GIVEN_UP, GONE, READY_NOW = 1, 2, 3, 4
  local LOOKED_AT_MAX = 100 -- groups, and turns, that a sweep looks at
  local LOOKED_AT_FOR = 60 * 1000 -- milliseconds; then come others
  local STRICT_RANK = 255 - DEFAULT_PRIORITY

  local rules -- by queue, as far as they are known: the rule or false
  local touched, by_name -- groups of which something changes, in order of the first change
  local number -- of who came last
  local counted -- by name: how many turns are given to jobs that are held to a first rule
  local limits -- of single groups, by name, as far as they are known: the limit or false
  local RULES, TURNS, LINES, HELD_KEY, RESTS, LIMITS

  function groups.start()
    rules, touched, by_name, number, counted = {}, {}, {}, nil, {}
    limits, LIMITS = {}, PREFIX .. 'group_limits'
    fair.start()
    RULES, TURNS, LINES, HELD_KEY = PREFIX .. 'rules', PREFIX .. 'turns', PREFIX .. 'lines', PREFIX .. 'held'
    RESTS = PREFIX .. 'rests'
  end

  -- Whether there may be rules, turns or lines.
  function groups.are_used()
    return tally.has_groups()
  end

  function groups.rule_of(queue)
    local rule = rules[queue]
    if rule == nil then
      local stored = call('HGET', RULES, queue)
      rule = stored and unpack_values(stored)
      rules[queue] = rule
    end
    return rule
  end

  function groups.name(queue, key)
    return queue .. '\0' .. key .. '\0'
  end

  local function queue_of(name)
    return sub(name, 1, string.find(name, '\0', 1, true) - 1)
  end

  -- The first members of a group, at most so many.
  local function first_of(key, name, most)
    if most <= 0 then
      return {}
    end
    return call('ZRANGE', key, '[' .. name, '(' .. sub(name, 1, -2) .. '\1', 'BYLEX', 'LIMIT', 0, score(most))
  end

  local function has_ended(limit)
    return limit[3] and limit[3] <= now
  end

  -- The limit of a group; false if it has none, or that has ended.
  local function limit_of(name)
    local limit = limits[name]
    if limit == nil then
      local stored = call('HGET', LIMITS, name)
      limit = stored and unpack_values(stored)
      limits[name] = limit
    end
    return limit and not has_ended(limit) and limit
  end

  function groups.limit_of(queue, key)
    return limit_of(groups.name(queue, key))
  end

  -- How many turns a group has by the rule of its queue, or by its own limit.
  local function turns_for(name, rule)
    local limit = rule[5] and not rule[2] and limit_of(name)
    return limit and limit[2] and limit[1] or rule[1]
  end

  -- All limits of single groups: { name, limit }.
  local function all_limits()
    local stored, all = call('HGETALL', LIMITS), {}
    for n = 1, #stored, 2 do
      all[#all + 1] = { stored[n], unpack_values(stored[n + 1]) }
    end
    return all
  end

  -- How many limits of single groups there are that haven't ended.
  function groups.count_limits()
    local count = 0
    for _, one in ipairs(all_limits()) do
      count = count + (has_ended(one[2]) and 0 or 1)
    end
    return count
  end

  -- The queues with groups that have limits of their own.
  function groups.limited_queues()
    local queues = {}
    for _, one in ipairs(groups.are_used() and all_limits() or {}) do
      queues[queue_of(one[1])] = true
    end
    return queues
  end

  -- What changes about a group: its name, what happens to it in order, how many of that are turns that are given up, and how many
  -- leave the line.
  local function touch(name)
    local group = by_name[name]
    if not group then
      group = { name = name, events = {}, given_up = 0, gone = 0 }
      by_name[name] = group
      touched[#touched + 1] = group
    end
    return group
  end

  -- Each of these has a place among the jobs that become ready by this call, and one among the events, for the one that may be let in
  -- by it.
  local function happens(group, what, one)
    group.events[#group.events + 1] = { what = what, one = one, place = waiting.place(), told = events.place() }
  end

  -- The number of the next job that is blocked.
  function groups.next_number()
    number = (number or tonumber(call('ZRANGE', BLOCKED_KEY, -1, -1, 'WITHSCORES')[2] or 0)) + 1
    return number
  end

  local function has_turn(member)
    return call('ZSCORE', TURNS, member) ~= false
  end

  local function member_of(id, queue, key)
    return groups.name(queue, key) .. id
  end

  -- Whether a job is held back by its group: it has no turn, and is in line now. The others are ready. `was_blocked`: whether it was
  -- blocked before as well, by others of its flow.
  function groups.hold_back(id, priority, queue, kind, expiries, key, was_blocked)
    local rule = key and groups.are_used() and groups.rule_of(queue)
    if not rule or has_turn(member_of(id, queue, key)) then
      return false
    end
    happens(touch(groups.name(queue, key)), CAME, {
      rank = rule[2] and STRICT_RANK or 255 - priority, number = groups.next_number(), id = id, priority = priority,
      lane = expiries > 0 and kind .. SUSPECTS or kind, was_blocked = was_blocked,
    })
    return true
  end

  local function give_up_in(name)
    local group = touch(name)
    group.given_up = group.given_up + 1
    happens(group, GIVEN_UP)
  end

  -- Takes its turn from a job that has one.
  function groups.give_up(id, queue, key)
    if not key or not groups.are_used() then
      return
    end
    local member = member_of(id, queue, key)
    if has_turn(member) then
      writes.value('ZREM', TURNS, member)
      writes.value('ZREM', HELD_KEY, member)
      give_up_in(groups.name(queue, key))
    end
  end

  -- Says that a job waits for some time.
  local function wait(id, queue, key)
    local rule = key and groups.are_used() and groups.rule_of(queue)
    if not rule or not rule[2] then
      groups.give_up(id, queue, key)
    end
  end

  -- Has a job wait in the schedule. `expiries`: how often its lease has run out since an attempt last ended.
  function groups.put_off(id, priority, queue, expiries, delay, key)
    wait(id, queue, key)
    waiting.schedule(id, priority, expiries > 0 and queue .. SUSPECTS or queue, delay)
  end

  -- Puts a job that is ready into its lane.
  function groups.put(id, priority, queue, kind, expiries, key)
    local lane = lanes.of(queue, kind, expiries)
    if not fair.is(queue) then
      waiting.put(id, priority, lane)
    elseif key and groups.are_used() then
      -- Those that an earlier rule holds back get their places in the same order.
      happens(touch(groups.name(queue, key)), READY_NOW, { id = id, priority = priority, lane = lane })
    else
      waiting.put_fairly(fair.next(queue, priority, key), id, priority, lane)
    end
  end

  -- Makes a job wait, with so long a payload: in its lane or its group's line, or after a delay. `expiries`: how often its lease has
  -- run out since an attempt last ended.
  function groups.make_wait(id, priority, queue, kind, expiries, length, delay, key)
    tally.came(1, length, length)
    if delay > 0 then
      groups.put_off(id, priority, queue, expiries, delay, key)
    elseif not groups.hold_back(id, priority, queue, kind, expiries, key) then
      groups.put(id, priority, queue, kind, expiries, key)
    end
  end

  -- Says that a job is final.
  function groups.finish_job(id, queue, key, state)
    local rule = state == DEAD and key and groups.are_used() and groups.rule_of(queue)
    local member = rule and rule[3] and member_of(id, queue, key)
    if member and has_turn(member) then
      writes.pair('ZADD', HELD_KEY, score(now), member)
      if rule[4] then
        writes.pair('ZADD', RESTS, score(now), id .. groups.name(queue, key))
        tally.note_settled(true)
      end
    else
      groups.give_up(id, queue, key)
    end
  end

  -- Who is in line as it is stored, in order, at most so many.
  local function stored_line(name, most)
    local line = first_of(LINES, name, most)
    for n, member in ipairs(line) do
      local rank, at, id, priority, behind = unpack_bytes(LINE, member, #name + 1)
      line[n] = { rank = rank, number = at, id = id, priority = priority, lane = sub(member, behind), member = member }
    end
    return line
  end

  -- The dead jobs behind which jobs are to be cancelled, in the order in which they died, at most so many: members of the ZSET, and
  -- when they died, by turns.
  function groups.rests(most)
    return groups.are_used() and call('ZRANGE', RESTS, 0, most - 1, 'WITHSCORES') or {}
  end

  function groups.has_rests()
    return groups.are_used() and call('EXISTS', RESTS) == 1
  end

  -- The ids of those in line behind a dead job, in order, at most so many; nothing if it doesn't hold its group any more.
  function groups.line_behind(id, name, most)
    if not call('ZSCORE', HELD_KEY, name .. id) then
      return nil
    end
    local ids = {}
    for n, one in ipairs(stored_line(name, most)) do
      ids[n] = one.id
    end
    return ids
  end

  -- Says that nobody is to be cancelled any more behind a dead job, which gives its turn up if it still has one.
  function groups.rest_is_gone(id, name, has_turn_still)
    writes.value('ZREM', RESTS, id .. name)
    if has_turn_still then
      writes.value('ZREM', TURNS, name .. id)
      writes.value('ZREM', HELD_KEY, name .. id)
      give_up_in(name)
    end
  end

  -- Says that a dead job is ready again, and so doesn't hold its group any more.
  function groups.revive(id, queue, key)
    if key and groups.are_used() then
      writes.value('ZREM', HELD_KEY, member_of(id, queue, key))
    end
  end

  -- Whether a job is blocked.
  function groups.has_in_line(id, key)
    return key and groups.are_used() and call('ZSCORE', BLOCKED_KEY, id) ~= false
  end

  -- How a job stands in its group's line, and its rank and number there; nothing if it isn't in line.
  local function find_in_line(id, priority, queue, kind, expiries, key)
    local at = key and groups.are_used() and call('ZSCORE', BLOCKED_KEY, id)
    if not at then
      return nil
    end
    local lane = expiries > 0 and kind .. SUSPECTS or kind
    -- The rule may have been another one when it came.
    for _, rank in ipairs({ 255 - priority, STRICT_RANK }) do
      local member = groups.name(queue, key) .. pack_bytes(LINE, rank, tonumber(at), id, priority) .. lane
      if call('ZSCORE', LINES, member) then
        return member, rank, tonumber(at)
      end
    end
  end

  -- Takes a job out of its group's line; says whether it was there.
  function groups.leave_line(id, priority, queue, kind, expiries, key)
    local member = find_in_line(id, priority, queue, kind, expiries, key)
    if not member then
      return false
    end
    local group = touch(groups.name(queue, key))
    group.gone = group.gone + 1
    happens(group, GONE, member)
    return true
  end

  -- Gives another priority to a job, with the number that it has, if it is in its group's line.
  function groups.rank(id, before, priority, queue, kind, expiries, key)
    local member, rank, at = find_in_line(id, before, queue, kind, expiries, key)
    if not member then
      return
    end
    local rule = groups.rule_of(queue)
    if rule then
      rank = rule[2] and STRICT_RANK or 255 - priority
    end
    local lane = expiries > 0 and kind .. SUSPECTS or kind
    writes.value('ZREM', LINES, member)
    writes.pair('ZADD', LINES, '0', groups.name(queue, key) .. pack_bytes(LINE, rank, at, id, priority) .. lane)
  end

  local function id_in_line(name, member)
    local _, _, id = unpack_bytes(LINE, member, #name + 1)
    return id
  end

  local function goes_first(a, b)
    if a.rank ~= b.rank then
      return a.rank < b.rank
    end
    return a.number < b.number
  end

  -- Lets the first of those in line in, which get this place among the jobs that become ready. Says whether there was any.
  local function let_in(line, place)
    local first = 1
    for n = 2, #line do
      if goes_first(line[n], line[first]) then
        first = n
      end
    end
    local one = table.remove(line, first)
    if one then
      one.place = place
    end
    return one
  end

  local function write_gone(one)
    if one.member then
      writes.value('ZREM', LINES, one.member)
      writes.value('ZREM', BLOCKED_KEY, one.id)
    end
  end

  -- The kind of one who is or was in line, and whether it is a suspect.
  local function kind_of(one)
    local is_suspect = waiting.is_of_suspects(one.lane)
    return is_suspect and sub(one.lane, 1, -#SUSPECTS - 1) or one.lane, is_suspect
  end

  local function write_ready(name, rule, one)
    local queue, kind, is_suspect = queue_of(name), kind_of(one)
    local lane = lanes.of(queue, kind, is_suspect and 1 or 0)
    if one.fair_place then
      waiting.put_fairly(one.fair_place, one.id, one.priority, lane)
    else
      waiting.put_at(one.place, one.id, one.priority, lane)
    end
    if rule then
      writes.pair('ZADD', TURNS, '0', name .. one.id)
    end
    write_gone(one)
  end

  local function find(list, member)
    for n, one in ipairs(list) do
      if one.member == member then
        return n
      end
    end
  end

  -- Lets in whoever may be let in by what happens to a group, one event after the other, and then so many more. Returns how many of
  -- these there were.
  local function play(group, more)
    local name = group.name
    local queue = queue_of(name)
    local rule, is_fair, key = groups.rule_of(queue), fair.is(queue), sub(name, #queue + 2, -2)
    local room = huge
    if rule then
      local turns = turns_for(name, rule)
      room = turns - #first_of(TURNS, name, turns + group.given_up + group.gone)
    end
    local let_in_most = min(#group.events + more, max(room, 0) + group.given_up + group.gone)
    local line, ready = stored_line(name, let_in_most + group.gone), {}
    local function let_one_in(place, told, came)
      local one = room > 0 and let_in(line, place)
      if one then
        room = room - 1
        ready[#ready + 1] = one
        one.fair_place = is_fair and fair.next(queue, one.priority, key)
        -- It is no event that one gets in that has just come, unless it was blocked before.
        if one ~= came or one.was_blocked then
          events.add_at(told, EVENT_UNBLOCKED, one.id, queue, kind_of(one), key, 0)
        end
      end
      return one
    end
    for _, event in ipairs(group.events) do
      if event.what == CAME then
        line[#line + 1] = event.one
        let_one_in(event.place, event.told, event.one)
      elseif event.what == READY_NOW then
        local one = event.one
        waiting.put_fairly(fair.next(queue, one.priority, key), one.id, one.priority, one.lane)
      elseif event.what == GIVEN_UP then
        room = room + 1
        let_one_in(event.place, event.told)
      elseif find(line, event.one) then
        write_gone(table.remove(line, find(line, event.one)))
      else
        local n = find(ready, event.one)
        if n then
          write_gone(table.remove(ready, n))
          room = room + 1
          let_one_in(event.place, event.told)
        else
          -- It stands behind all that can be reached.
          writes.value('ZREM', LINES, event.one)
          writes.value('ZREM', BLOCKED_KEY, id_in_line(name, event.one))
        end
      end
    end
    local let = 0
    while let < more and let_one_in(waiting.place(), events.place()) do
      let = let + 1
    end
    for _, one in ipairs(ready) do
      write_ready(name, rule, one)
    end
    for _, one in ipairs(line) do
      if not one.member then
        writes.pair('ZADD', LINES, '0', name .. pack_bytes(LINE, one.rank, one.number, one.id, one.priority) .. one.lane)
        writes.pair('ZADD', BLOCKED_KEY, score(one.number), one.id)
      end
    end
    return let
  end

  -- Decides who is let in, and lets in up to so many more than there is cause for in this call. Returns how many of those there were.
  function groups.finish(more)
    local let = 0
    for _, group in ipairs(touched) do
      let = let + play(group, (more or 0) - let)
    end
    fair.finish()
    return let
  end

  -- Turns of the group in whose line a job waits: { how many are taken, how many there are, the first job with one or false, whether
  -- that is dead }; false if it waits in none, or there is no rule.
  function groups.turns_of(id, priority, queue, kind, key)
    -- Whether it is a suspect isn't known here. One that waits for others of its flow is blocked, and in no line.
    local in_line = find_in_line(id, priority, queue, kind, 0, key) or find_in_line(id, priority, queue, kind, 1, key)
    local rule = in_line and groups.rule_of(queue)
    if not rule then
      return false
    end
    local taken = first_of(TURNS, groups.name(queue, key), GROUP_CONCURRENCY_MAX)
    local is_dead = taken[1] and call('ZSCORE', HELD_KEY, taken[1])
    return { #taken, turns_for(groups.name(queue, key), rule), taken[1] and sub(taken[1], -26) or false, is_dead and 1 or 0 }
  end

  -- The name of the first group with a line behind this place.
  local function next_group(place)
    local member = call('ZRANGE', LINES, '(' .. place, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
    local at = member and string.find(member, '\0', string.find(member, '\0', 1, true) + 1, true)
    return at and sub(member, 1, at)
  end

  -- Where to begin to look at a ZSET of so many members, of which so many are looked at.
  local function first_looked_at(count)
    return count > LOOKED_AT_MAX and floor(now / LOOKED_AT_FOR) * LOOKED_AT_MAX % count or 0
  end

  -- Takes turns from those who are final or gone.
  local function heal_turns()
    local first = first_looked_at(call('ZCARD', TURNS))
    for _, member in ipairs(call('ZRANGE', TURNS, first, first + LOOKED_AT_MAX - 1)) do
      local id = sub(member, -26)
      local packed = reads.try('GET', RUN_KEY .. id)
      local is = packed and runs.head(packed)
      local is_over = not packed and call('EXISTS', JOB_KEY .. id) == 0
      if (is_over or IS_FINAL[is]) and not call('ZSCORE', HELD_KEY, member) then
        writes.value('ZREM', TURNS, member)
        give_up_in(sub(member, 1, -27))
      end
    end
  end

  -- Has so many groups with a line looked at, from the first one behind this place on. Says whether there are more.
  local function touch_from(place)
    for _ = 1, LOOKED_AT_MAX do
      local name = next_group(place)
      if not name then
        return false
      end
      touch(name)
      place = sub(name, 1, -2) .. '\1'
    end
    return true
  end

  -- Looks whether some of those in line can be let in, as rules may have changed, and whether turns are those of jobs that need
  -- them. `groups.finish` does the rest. Where there are many groups, others are looked at from time to time.
  function groups.heal()
    heal_turns()
    if touch_from('') then
      local first = first_looked_at(call('ZCARD', LINES))
      touch_from(call('ZRANGE', LINES, first, first)[1])
    end
  end

  -- The queues that have a rule.
  function groups.queues()
    local queues, all = {}, groups.are_used() and call('HGETALL', RULES) or {}
    for n = 1, #all, 2 do
      queues[#queues + 1] = all[n]
    end
    return queues
  end

  -- Members of held groups and since when they are held, by turns.
  function groups.held(most)
    return call('ZRANGE', HELD_KEY, 0, most - 1, 'WITHSCORES')
  end

  -- Gives a turn to a job, whether or not one is left.
  function groups.count_in(id, queue, key)
    local name = groups.name(queue, key)
    if not has_turn(name .. id) then
      counted[name] = (counted[name] or 0) + 1
      writes.pair('ZADD', TURNS, '0', name .. id)
    end
  end

  -- Gives a turn to a job if one is left, or has it wait in line. Says whether it has one.
  function groups.count_in_or_hold_back(id, priority, queue, kind, expiries, key)
    local name, rule = groups.name(queue, key), groups.rule_of(queue)
    if has_turn(name .. id) then
      return true
    end
    local turns = turns_for(name, rule)
    if #first_of(TURNS, name, turns) + (counted[name] or 0) < turns then
      groups.count_in(id, queue, key)
      return true
    end
    local rank, came = rule[2] and STRICT_RANK or 255 - priority, groups.next_number()
    local lane = expiries > 0 and kind .. SUSPECTS or kind
    writes.pair('ZADD', LINES, '0', name .. pack_bytes(LINE, rank, came, id, priority) .. lane)
    writes.pair('ZADD', BLOCKED_KEY, score(came), id)
    return false
  end

  -- Lets a group go on that dead jobs hold. Returns how many.
  function groups.release(queue, key)
    local name, count = groups.name(queue, key), 0
    for _, member in ipairs(first_of(TURNS, name, GROUPED)) do
      if call('ZSCORE', HELD_KEY, member) then
        writes.value('ZREM', TURNS, member)
        writes.value('ZREM', HELD_KEY, member)
        give_up_in(name)
        count = count + 1
      end
    end
    return count
  end

  -- Takes their turns from dead jobs that are removed. Who is let in is left to the next `groups.heal`.
  function groups.forget(ids)
    if not groups.are_used() or call('EXISTS', HELD_KEY) == 0 then
      return
    end
    for _, id in ipairs(ids) do
      local _, queue, _, _, _, key = jobs.head(id)
      local member = key and member_of(id, queue, key)
      if member and call('ZSCORE', HELD_KEY, member) then
        writes.value('ZREM', HELD_KEY, member)
        writes.value('ZREM', TURNS, member)
      end
    end
  end

  function groups.set_rule(queue, rule)
    rules[queue] = rule
    if rule then
      writes.pair('HSET', RULES, queue, pack_values(rule))
    else
      writes.value('HDEL', RULES, queue)
    end
  end

  -- Notes with the rule of a queue whether groups of it have limits of their own.
  local function note_limited(queue, is_limited)
    local rule = groups.rule_of(queue)
    if rule and (rule[5] or false) ~= is_limited then
      groups.set_rule(queue, { rule[1], rule[2], rule[3], rule[4] or false, is_limited })
    end
  end

  local function write_limit(name, limit)
    limits[name] = limit
    if limit then
      writes.pair('HSET', LIMITS, name, pack_values(limit))
    else
      writes.value('HDEL', LIMITS, name)
    end
  end

  -- Sets the limit of a group, or removes it. Who gets in by that is let in by `groups.finish`, up to the number that it is given.
  function groups.set_limit(queue, key, limit)
    local name, has_others = groups.name(queue, key), false
    for _, one in ipairs(limit and {} or all_limits()) do
      has_others = has_others or (one[1] ~= name and queue_of(one[1]) == queue)
    end
    write_limit(name, limit)
    tally.note_groups(true)
    note_limited(queue, limit and true or has_others)
    touch(name)
  end

  -- Removes the limits that have ended. Returns when the first of the others ends, huge if none does by itself.
  function groups.sweep_limits()
    local first, lapsed, limited = huge, {}, {}
    for _, one in ipairs(groups.are_used() and all_limits() or {}) do
      local name, limit = one[1], one[2]
      local queue = queue_of(name)
      if has_ended(limit) then
        write_limit(name, false)
        lapsed[queue] = true
      else
        limited[queue] = true
        first = min(first, limit[3] or huge)
      end
    end
    for queue in pairs(lapsed) do
      note_limited(queue, limited[queue] or false)
    end
    return first
  end

  -- Limits that haven't ended, as in limit_list.lua.
  function groups.list_limits()
    local list = {}
    for _, one in ipairs(groups.are_used() and all_limits() or {}) do
      local name, limit = one[1], one[2]
      if not has_ended(limit) then
        local queue = queue_of(name)
        list[#list + 1] = {
          queue, sub(name, #queue + 2, -2), limit[1], limit[2] and 1 or 0, limit[3], limit[4], limit[5], limit[6],
          #first_of(TURNS, name, GROUP_CONCURRENCY_MAX),
        }
      end
    end
    return list
  end

  -- Takes up to so many jobs out of all lines, and lets nobody in. Returns their ids, and how many are left there.
  function groups.take(most)
    local ids = {}
    for n, member in ipairs(most > 0 and call('ZRANGE', LINES, 0, most - 1) or {}) do
      local behind_queue = string.find(member, '\0', 1, true)
      local name_end = string.find(member, '\0', behind_queue + 1, true)
      ids[n] = id_in_line(sub(member, 1, name_end), member)
      writes.value('ZREM', LINES, member)
      writes.value('ZREM', BLOCKED_KEY, ids[n])
    end
    return ids, call('ZCARD', LINES) - #ids
  end

  -- Takes its turn from a job that goes for good, and lets nobody in.
  function groups.drop(id, queue, key)
    if key and groups.are_used() then
      writes.value('ZREM', TURNS, member_of(id, queue, key))
      writes.value('ZREM', HELD_KEY, member_of(id, queue, key))
    end
  end

  -- Removes all rules, and whatever may be left of turns.
  function groups.drop_all()
    if groups.are_used() then
      writes.remove(RULES)
      writes.remove(LIMITS)
      writes.remove(TURNS)
      writes.remove(HELD_KEY)
      writes.remove(RESTS)
      tally.note_groups(false)
    end
  end

  -- Whether anything is kept of rules, turns and lines.
  function groups.keeps_anything()
    return reads.count({ RULES, TURNS, LINES, LIMITS }) > 0
  end
end
