-- Jobs that are created, by their producers or by runs.

local creation = {}

do
  -- The form of one job in a batch: delay, layout, priority, queue, unique key or nothing, kind, how long its payload is, and the
  -- bytes of the job from its priority on.
  local JOB = '>I8BBBc0I2c0Bc0I4I4c0'

  local JOB_START = '>BI6' -- what is added here: layout, and when it is enqueued

  local created -- by key: whether this call creates it, if it takes several batches

  -- `is_one`: whether the call takes one batch, in which no job is twice.
  function creation.start(is_one)
    created = not is_one and {}
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
  -- holds its unique key, or the number of an answer }; false if all are.
  function creation.create(list, count, first, bounds, are_new)
    local strings = are_new and writes.fresh() or writes.strings()
    local known = not are_new and find_known(count, first)
    local s, replies, position = #strings, false, 1
    local jobs_max, bytes_max, payload_max = huge, huge, huge
    if bounds then
      local jobs_now, bytes_now = tally.waiting()
      jobs_max, bytes_max, payload_max = bounds.jobs - jobs_now, bounds.bytes - bytes_now, bounds.payload
    end
    local came, came_bytes, longest = 0, 0, 0
    local starts = {} -- by layout
    local lane, queue_of_lane, kind_of_lane
    for n = 0, count - 1 do
      local key = keys[first + n]
      local delay, layout, priority, queue, unique_key, kind, length, bytes, after =
        unpack_bytes(JOB, list, position)
      position = after
      if not (known and known[key]) then
        local id, refusal = sub(key, -26), nil
        if unique_key ~= '' and unique.holder(unique_key) then
          refusal = unique.holder(unique_key)
        elseif length > payload_max then
          refusal = TOO_LARGE
        elseif came >= jobs_max then
          refusal = TOO_MANY_JOBS
        elseif length > 0 and came_bytes + length > bytes_max then
          refusal = TOO_MANY_JOB_BYTES
        end
        if refusal then
          replies = replies or {}
          replies[n + 1] = refusal
        else
          if unique_key ~= '' then
            unique.claim(unique_key, id)
          end
          if created then
            created[key] = true
          end
          starts[layout] = starts[layout] or pack_bytes(JOB_START, layout, now)
          strings[s + 1], strings[s + 2] = key, starts[layout] .. bytes
          s, came, came_bytes = s + 2, came + 1, came_bytes + length
          if length > longest then
            longest = length
          end
          if delay > 0 then
            waiting.schedule(id, priority, queue, delay)
          else
            if queue ~= queue_of_lane or kind ~= kind_of_lane then
              lane, queue_of_lane, kind_of_lane = lanes.of(queue, kind, 0), queue, kind
            end
            waiting.put(id, priority, lane)
          end
        end
      end
    end
    if came > 0 then
      tally.came(came, came_bytes, longest)
    end
    return replies
  end
end
