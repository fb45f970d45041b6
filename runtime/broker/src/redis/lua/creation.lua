-- Jobs that are created, by their producers or by runs.

local creation = {}

do
  -- A batch is made of groups: what jobs have in common, and then the payload of each. In common they have delay, layout, priority,
  -- queue, unique key or nothing, kind, and all bytes from the priority up to the payload; next comes how many there are. A
  -- job with a unique key is a group of its own.
  local GROUP = '>I8BBBc0I2c0Bc0I2c0I4'
  local PAYLOAD = '>I4c0'

  local JOB_START = '>BI6' -- what is added here: layout, and when it is enqueued

  local created -- by key: whether this call creates it, if it takes several batches
  local first_start_by -- when the first of those that it creates or changes has to have started; huge if none has to
  local replaced -- the list that writes the jobs that get other payloads, or nothing
  local here -- by id: what this call creates or changes of jobs with unique keys whose rule isn't the usual one, or nothing

  -- `is_one`: whether the call takes one batch, in which no job is twice.
  function creation.start(is_one)
    created, here, replaced = not is_one and {}, nil, nil
    first_start_by = huge
  end

  -- Starts all that a call takes part in which creates the jobs of one batch.
  function creation.begin()
    writes.start()
    waiting.start()
    lanes.start()
    groups.start()
    tally.start()
    events.start()
    unique.start()
    creation.start(true)
  end

  -- Which of the jobs are there already, by key; nothing if none is.
  local function find_known(count, first)
    local known = created
    for start = first, first + count - 1, SLICE do
      local last = min(start + SLICE, first + count) - 1
      if call('EXISTS', unpack(keys, start, last)) > 0 then
        known = known or {}
        for n = start, last do
          known[keys[n]] = known[keys[n]] or call('EXISTS', keys[n]) == 1
        end
      end
    end
    return known
  end

  -- A job that holds a unique key, as it is with what this call has changed: its bytes, the list that they are written by and the
  -- place in it, whether it waits, whether it is of a flow, its priority, when it has to have started, and lane and due time if it
  -- is scheduled. Nothing if it can't be read.
  local function find_holder(id)
    local found = here and here[id]
    if not found then
      local job, packed = reads.try('GET', JOB_KEY .. id), reads.try('GET', RUN_KEY .. id)
      local priority, queue = jobs.read(job)
      if not priority then
        return nil
      end
      local waits = not packed or runs.head(packed) == READY
      local due, member = waiting.due_at(id, priority, queue)
      found = {
        bytes = job, waits = waits, is_of_flow = jobs.mark(job), priority = priority, lane = due and sub(member, 28),
        due = tonumber(due or nil), start_by = due and starting.of(id),
      }
      here = here or {}
      here[id] = found
    end
    found.waits = found.waits or unique.is_waiting_now(id)
    return found
  end

  -- What a job does to the one that holds its unique key. Returns the answer, and how many bytes of payload come by it.
  local function clash(holder, key, head, kind, payload, payload_max, bytes_left)
    local rule = jobs.rule(head)
    if not rule or rule.on_clash == KEEP then
      return holder, 0
    end
    local found = find_holder(holder)
    local rule_of_holder = found and jobs.rule(found.bytes)
    local due
    if rule.on_clash == DEBOUNCE then
      local deadline = found and found.deadline or unique.deadline(key, holder)
      due = deadline and min(now + rule.delay, deadline)
    end
    -- One that is gone may only have held it for a time.
    if not found or (rule_of_holder and rule_of_holder.ends == UNTIL_OVER) then
      if due then
        unique.ends_at(key, holder, due)
      end
      return holder, 0
    end
    local replaces = found.waits and not found.is_of_flow
      and rule.ends ~= UNTIL_OVER and rule_of_holder and rule_of_holder.on_clash ~= KEEP
      and jobs.kind_of(found.bytes) == kind
    if not replaces then
      return holder, 0
    end
    local payload_at = jobs.payload_at(found.bytes)
    local more = #payload - (#found.bytes - payload_at)
    if #payload > payload_max then
      return TOO_LARGE, 0
    elseif more > 0 and more > bytes_left then
      return TOO_MANY_JOB_BYTES, 0
    end
    found.bytes = sub(found.bytes, 1, payload_at) .. payload
    if not found.list then
      replaced = replaced or writes.own_strings()
      found.list = replaced
      found.place = #found.list + 2
      found.list[found.place - 1] = JOB_KEY .. holder
    end
    found.list[found.place] = found.bytes
    if due and found.lane then
      waiting.schedule(holder, found.priority, found.lane, due - now)
      if found.start_by then
        found.start_by = max(found.start_by + due - found.due, 0)
        starting.put_off(holder, found.start_by)
        first_start_by = min(first_start_by, found.start_by)
      end
      found.due = due
    end
    return holder .. '+', more
  end

  -- Creates the jobs of a batch, whose `job:<id>` stand in the keys from this place on. A job that is there already stays
  -- as it is; with `are_new` it is taken that none is, and `writes.commit` will tell. `bounds`: how many may wait, with how many
  -- bytes of payload, and how many a payload may have; or nothing. Returns { for each that isn't stored: the id of the job that
  -- holds its unique key, with a `+` behind it if that one has got the payload, or the number of an answer }; false if all are. `block`,
  -- if there is one, is told the place and id of each job, and says whether it has made the job wait for something else than its
  -- turn; the jobs are of a flow then, which changes no other job.
  function creation.create(list, count, first, bounds, are_new, block)
    local strings = are_new and writes.fresh() or writes.strings()
    local known = not are_new and find_known(count, first)
    local s, replies = #strings, false
    local jobs_max, bytes_max, payload_max = huge, huge, huge
    if bounds then
      local jobs_now, bytes_now = tally.waiting()
      jobs_max, bytes_max, payload_max = bounds.jobs - jobs_now, bounds.bytes - bytes_now, bounds.payload
    end
    local came, came_bytes, longest, is_changed = 0, 0, 0, false
    local place, position = first, 1
    while place < first + count do
      local delay, layout, priority, queue, unique_key, kind, head, alike, after =
        unpack_bytes(GROUP, list, position)
      local start = pack_bytes(JOB_START, layout, now) .. head
      local start_within = layout == WITH_OPTIONS and jobs.start_within(start)
      local lane = delay == 0 and lanes.of(queue, kind, 0) or queue
      local is_fair = delay == 0 and fair.is(queue)
      local group = layout == WITH_OPTIONS and delay == 0 and (is_fair or groups.are_used()) and jobs.group_of(start) or nil
      local are_told, told_group = events.are_wanted(), nil
      if are_told then
        told_group = jobs.group_of(start)
      end
      for n = place, place + alike - 1 do
        local key, payload = keys[n], nil
        payload, after = unpack_bytes(PAYLOAD, list, after)
        if not (known and known[key]) then
          local length = #payload
          local refusal, more = unique_key ~= '' and unique.holder(unique_key), 0
          if refusal and not block then
            refusal, more = clash(refusal, unique_key, start, kind, payload, payload_max, bytes_max - came_bytes)
            came_bytes, is_changed = came_bytes + more, is_changed or more ~= 0
            longest = max(longest, more ~= 0 and length or 0)
          end
          refusal = refusal
            or length > payload_max and TOO_LARGE
            or came >= jobs_max and TOO_MANY_JOBS
            or length > 0 and came_bytes + length > bytes_max and TOO_MANY_JOB_BYTES
          if refusal then
            replies = replies or {}
            replies[n - first + 1] = refusal
          else
            local id = sub(key, -26)
            local rule = unique_key ~= '' and jobs.rule(start)
            local deadline = unique_key ~= '' and unique.claim(unique_key, id, rule)
            if created then
              created[key] = true
            end
            strings[s + 1], strings[s + 2] = key, start .. payload
            if rule then
              here = here or {}
              here[id] = {
                bytes = strings[s + 2], list = strings, place = s + 2, waits = true, priority = priority,
                lane = delay > 0 and lane, due = now + delay, deadline = deadline,
                start_by = start_within and now + start_within,
              }
            end
            s, came, came_bytes = s + 2, came + 1, came_bytes + length
            if length > longest then
              longest = length
            end
            if start_within then
              writes.pair('ZADD', STARTING, score(now + start_within), id)
              first_start_by = min(first_start_by, now + start_within)
            end
            if are_told then
              events.add(EVENT_CREATED, id, queue, kind, told_group, 0)
            end
            local is_blocked = block and block(n - first + 1, id)
            if delay > 0 then
              waiting.schedule(id, priority, lane, delay)
            elseif not is_blocked and not (group and groups.hold_back(id, priority, queue, kind, 0, group)) then
              if is_fair then
                groups.put(id, priority, queue, kind, 0, group)
              else
                waiting.put(id, priority, lane)
              end
            end
          end
        end
      end
      place, position = place + alike, after
    end
    if came > 0 or is_changed then
      tally.came(came, came_bytes, longest)
    end
    return replies
  end

  -- Completes what was gathered of the jobs that have to start within a time: the listeners have to know of an earlier one.
  function creation.finish()
    if first_start_by < huge then
      if first_start_by < starting.first() then
        writes.wake()
      end
      tally.note_starting(true)
    end
  end

  -- Completes all that `creation.begin` has started, up to what the caller commits.
  function creation.complete()
    groups.finish()
    creation.finish()
    unique.finish()
    waiting.finish_and_wake()
    events.finish()
    tally.finish()
  end

  -- The place in the batch of the first job that isn't stored, and why; nothing if all are.
  function creation.first_refusal(refusals, count)
    for n = 1, refusals and count or 0 do
      if refusals[n] then
        return n, refusals[n]
      end
    end
  end
end
