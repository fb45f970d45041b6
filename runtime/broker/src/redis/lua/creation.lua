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
  local first_start_by -- when the first of those that it creates has to have started; huge if none has to

  -- `is_one`: whether the call takes one batch, in which no job is twice.
  function creation.start(is_one)
    created = not is_one and {}
    first_start_by = huge
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

  -- Creates the jobs of a batch, whose `job:<id>` stand in the keys from this place on. A job that is there already stays
  -- as it is; with `are_new` it is taken that none is, and `writes.commit` will tell. `bounds`: how many may wait, with how many
  -- bytes of payload, and how many a payload may have; or nothing. Returns { for each that isn't stored: the id of the job that
  -- holds its unique key, or the number of an answer }; false if all are. `block`, if there is one, is told the place and id of each
  -- job, and says whether it has made the job wait for something else than its turn.
  function creation.create(list, count, first, bounds, are_new, block)
    local strings = are_new and writes.fresh() or writes.strings()
    local known = not are_new and find_known(count, first)
    local s, replies = #strings, false
    local jobs_max, bytes_max, payload_max = huge, huge, huge
    if bounds then
      local jobs_now, bytes_now = tally.waiting()
      jobs_max, bytes_max, payload_max = bounds.jobs - jobs_now, bounds.bytes - bytes_now, bounds.payload
    end
    local came, came_bytes, longest = 0, 0, 0
    local place, position = first, 1
    while place < first + count do
      local delay, layout, priority, queue, unique_key, kind, head, alike, after =
        unpack_bytes(GROUP, list, position)
      local start = pack_bytes(JOB_START, layout, now) .. head
      local start_within = layout == WITH_OPTIONS and jobs.start_within(start)
      local lane = delay == 0 and lanes.of(queue, kind, 0) or queue
      local group = layout == WITH_OPTIONS and delay == 0 and groups.are_used() and jobs.group_of(start)
      for n = place, place + alike - 1 do
        local key, payload = keys[n], nil
        payload, after = unpack_bytes(PAYLOAD, list, after)
        if not (known and known[key]) then
          local length = #payload
          local refusal = unique_key ~= '' and unique.holder(unique_key)
            or length > payload_max and TOO_LARGE
            or came >= jobs_max and TOO_MANY_JOBS
            or length > 0 and came_bytes + length > bytes_max and TOO_MANY_JOB_BYTES
          if refusal then
            replies = replies or {}
            replies[n - first + 1] = refusal
          else
            local id = sub(key, -26)
            if unique_key ~= '' then
              unique.claim(unique_key, id)
            end
            if created then
              created[key] = true
            end
            strings[s + 1], strings[s + 2] = key, start .. payload
            s, came, came_bytes = s + 2, came + 1, came_bytes + length
            if length > longest then
              longest = length
            end
            if start_within then
              writes.pair('ZADD', STARTING, score(now + start_within), id)
              first_start_by = min(first_start_by, now + start_within)
            end
            local is_blocked = block and block(n - first + 1, id)
            if delay > 0 then
              waiting.schedule(id, priority, lane, delay)
            elseif not is_blocked and not (group and groups.hold_back(id, priority, queue, kind, 0, group)) then
              waiting.put(id, priority, lane)
            end
          end
        end
      end
      place, position = place + alike, after
    end
    if came > 0 then
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
end
