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

  -- Why a job with so long a payload may not wait: the number of the answer; nothing if it may.
  local function excess_of(bounds, length)
    if length > bounds.payload then
      return TOO_LARGE
    end
    local jobs_now, bytes_now = tally.waiting()
    if jobs_now + 1 > bounds.jobs then
      return TOO_MANY_JOBS
    end
    return length > 0 and bytes_now + length > bounds.bytes and TOO_MANY_JOB_BYTES or nil
  end

  -- Creates the jobs of a batch, whose `job:<id>` stand in the keys from this place on. A job that is there already stays
  -- as it is. `bounds`: how many may wait, with how many bytes of payload, and how many a payload may have; or nothing. Returns
  -- { for each that isn't stored: the id of the job that holds its unique key, or the number of an answer }; false if all are.
  function creation.create(list, count, first, bounds)
    local strings = writes.strings()
    local s = #strings
    local are_new = true
    for start = first, first + count - 1, SLICE do
      local last = min(start + SLICE, first + count) - 1
      are_new = are_new and call('EXISTS', unpack(keys, start, last)) == 0
    end
    local replies = false
    local position = 1
    for n = 0, count - 1 do
      local key = keys[first + n]
      local delay, layout, priority, queue, unique_key, kind, length, bytes, after =
        unpack_bytes(JOB, list, position)
      position = after
      if not (created and created[key]) and (are_new or call('EXISTS', key) == 0) then
        local id = id_of(key)
        local refusal = unique_key ~= '' and unique.holder(unique_key) or bounds and excess_of(bounds, length)
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
          strings[s + 1], strings[s + 2] = key, pack_bytes(JOB_START, layout, now) .. bytes
          s = s + 2
          waiting.add(id, priority, queue, kind, 0, length, delay)
        end
      end
    end
    return replies
  end
end
