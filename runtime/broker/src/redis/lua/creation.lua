-- Jobs that are created, by their producers or by runs.

local creation = {}

do
  -- The form of one job in a batch: delay, layout, priority, queue, unique key or nothing, and the bytes of the job from
  -- its priority on.
  local JOB = '>I8BBBc0I2c0I4c0'

  local JOB_START = '>BI6' -- what is added here: layout, and when it is enqueued

  local created -- by key: whether this call creates it, if it takes several batches

  -- `is_one`: whether the call takes one batch, in which no job is twice.
  function creation.start(is_one)
    created = not is_one and {}
  end

  -- Creates the jobs of a batch, whose `job:<id>` stand in the keys from this place on. A job that is there already stays
  -- as it is. Returns { for each: the id of the job that holds its unique key, or nothing }; false if all are stored.
  function creation.create(jobs, count, first)
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
      local delay, layout, priority, queue, unique_key, bytes, after = unpack_bytes(JOB, jobs, position)
      position = after
      if not (created and created[key]) and (are_new or call('EXISTS', key) == 0) then
        local id = id_of(key)
        local holder = unique_key ~= '' and unique.holder(unique_key)
        if holder then
          replies = replies or {}
          replies[n + 1] = holder
        else
          if unique_key ~= '' then
            unique.claim(unique_key, id)
          end
          if created then
            created[key] = true
          end
          strings[s + 1], strings[s + 2] = key, pack_bytes(JOB_START, layout, now) .. bytes
          s = s + 2
          waiting.add(id, priority, queue, delay)
        end
      end
    end
    return replies
  end
end
