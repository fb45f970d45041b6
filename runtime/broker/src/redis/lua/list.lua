-- Lists jobs of one state, from a place on.
--
-- asked    { state, score and id behind which the list goes on or false and false, how many at most, how many are looked at at
--            most, after how many bytes nothing more is read, how many bytes of payload and output at most, whether those are
--            wanted, what they have to be like: queue, kind, reason, group, labels (names and values by turns), a part of the
--            message, enqueued from and until, leased until, finished until, each false if that doesn't matter }
-- returns  { records as in records.lua, without payload and output if those aren't wanted; of those that can't be read the id
--            alone, or with what can't be read }, score and id of the last one looked at, if there are more, and the time
--
-- Ready and final jobs are in one ZSET a lane or class, whose orders are merged. Each is read from the place on, so a page
-- that lies deep costs no more than an early one.

local list

do
  local wanted, is_final, after_score, after_id

  local function sources(queue)
    local names = {}
    if wanted == BLOCKED then
      names[1] = BLOCKED_KEY
    elseif wanted == SCHEDULED then
      names[1] = SCHEDULE
    elseif wanted == LEASED then
      names[1] = LEASES
    elseif wanted == READY then
      for _, lane in ipairs(call('SMEMBERS', QUEUES)) do
        if not queue or lane == queue or sub(lane, 1, #queue + 1) == queue .. ' ' then
          names[#names + 1] = READY_KEY .. lane
        end
      end
    else
      for _, class in ipairs(finals.classes_of(wanted)) do
        names[#names + 1] = CLASS_KEY .. class
      end
    end
    return names
  end

  -- Byte by byte, as Redis orders members; Lua's own comparison goes by the locale.
  local function is_less(a, b)
    for n = 1, #a do
      local x, y = byte(a, n), byte(b, n)
      if x ~= y then
        return x < y
      end
    end
    return false
  end

  -- Whether one place in the list comes before another one.
  local function comes_first(a_score, a_id, b_score, b_id)
    if is_final then
      a_score, a_id, b_score, b_id = b_score, b_id, a_score, a_id
    end
    if a_score ~= b_score then
      return a_score < b_score
    end
    return is_less(a_id, b_id)
  end

  -- Reads on in a source; it is spent when there is nothing more.
  local function refill(source)
    local from = after_score and score(after_score) or (is_final and '+inf' or '-inf')
    local members
    if is_final then
      members = call(
        'ZRANGE', source.key, from, '-inf', 'BYSCORE', 'REV', 'LIMIT', source.offset, source.chunk, 'WITHSCORES'
      )
    else
      members = call('ZRANGE', source.key, from, '+inf', 'BYSCORE', 'LIMIT', source.offset, source.chunk, 'WITHSCORES')
    end
    source.offset = source.offset + #members / 2
    source.members, source.at = members, 1
    source.is_spent = #members == 0
  end

  -- Goes to the next member behind the place from which the list goes on.
  local function advance(source)
    repeat
      source.at = source.at + 2
      if source.at > #source.members then
        refill(source)
      end
      if source.is_spent then
        return
      end
      source.id = sub(source.members[source.at], 1, 26)
      source.score = tonumber(source.members[source.at + 1])
    until not after_score or comes_first(after_score, after_id, source.score, source.id)
  end

  -- A heap of sources, the one with the first member on top.
  local function sift_down(heap, n)
    local count = #heap
    while true do
      local first = n
      for child = 2 * n, 2 * n + 1 do
        local a, b = heap[child], heap[first]
        if child <= count and comes_first(a.score, a.id, b.score, b.id) then
          first = child
        end
      end
      if first == n then
        return
      end
      heap[n], heap[first] = heap[first], heap[n]
      n = first
    end
  end

  local function open(names, limit)
    local heap = {}
    local chunk = max(min(limit + 1, floor(2 * limit / max(#names, 1))), 4)
    for _, name in ipairs(names) do
      local source = { key = name, offset = 0, chunk = chunk, members = {}, at = 0 }
      advance(source)
      if not source.is_spent then
        heap[#heap + 1] = source
      end
    end
    for n = floor(#heap / 2), 1, -1 do
      sift_down(heap, n)
    end
    return heap
  end

  local function drop_first(heap)
    local source = heap[1]
    advance(source)
    if source.is_spent then
      heap[1] = heap[#heap]
      heap[#heap] = nil
    end
    if #heap > 1 then
      sift_down(heap, 1)
    end
  end

  -- Reason and message.
  local function why_of(run)
    local why = run and run.places[WHY]
    local is_whole, parts = pcall(unpack_values, why or '')
    if is_whole and type(parts) == 'table' then
      return parts[1], parts[2]
    end
  end

  -- Whether a job, as its producer asked for it, is like that. The bytes are there up to its payload if it matters what options it has.
  local function passes(job, queue, filter)
    if filter.queue and filter.queue ~= queue or filter.kind and jobs.kind_of(job) ~= filter.kind then
      return false
    end
    if filter.from or filter.until_time then
      local enqueued = unpack_bytes('>I6', job, 2)
      if enqueued < (filter.from or 0) or enqueued >= (filter.until_time or huge) then
        return false
      end
    end
    return (not filter.group or jobs.group_of(job) == filter.group)
      and (not filter.labels or jobs.has_labels(job, filter.labels))
  end

  -- Whether what has happened to a job is like that.
  local function run_passes(run, filter)
    if run and (run.leased_at >= (filter.leased_until or huge) or run.finished_at >= (filter.finished_until or huge)) then
      return false
    end
    if not filter.reason and not filter.message then
      return true
    end
    local reason, message = why_of(run)
    return (not filter.reason or reason == filter.reason)
      and (not filter.message or (message and string.find(message, filter.message, 1, true) ~= nil))
  end

  -- The record of a job, or nothing if it isn't like that; how many bytes its payload and output have; and how many were read.
  local function look_at(id, at, filter, has_payloads)
    local head = reads.try('GETRANGE', JOB_KEY .. id, 0, JOB_HEAD_BYTES_MAX - 1)
    local priority, queue = jobs.read(head)
    local payload_at = priority and jobs.payload_at(head)
    if priority and payload_at > #head then
      head = call('GETRANGE', JOB_KEY .. id, 0, payload_at - 1)
    end
    if priority and not passes(head, queue, filter) then
      return nil, 0, #head
    end
    local packed = reads.try('GET', RUN_KEY .. id)
    local run = packed and runs.read(packed)
    if not priority or (packed and not run) then
      return { id, head ~= reads.ALIEN and head, packed ~= reads.ALIEN and packed, false, 0, false }, 0, 0
    end
    local read = #head + (packed and #packed or 0)
    if not run_passes(run, filter) then
      return nil, 0, read
    end
    local length = 0
    if has_payloads then
      head = call('GET', JOB_KEY .. id)
      length = #head - payload_at + #(run and run.places[OUTPUT] or '')
    else
      head = sub(head, 1, payload_at)
      if run and run.places[OUTPUT] then
        run.places[OUTPUT] = false
        packed = runs.pack(run)
      end
    end
    local is_blocked = wanted == BLOCKED
    local record = { id, head, packed, at, is_blocked and 1 or 0, is_blocked and call('GET', flows.open_key(id)) }
    return record, length, read + length
  end

  function list()
    local limit, looked_max, read_max, bytes_max, has_payloads
    local filter = {}
    wanted, after_score, after_id, limit, looked_max, read_max, bytes_max, has_payloads = unpack(asked, 1, 8)
    filter.queue, filter.kind, filter.reason, filter.group, filter.labels, filter.message = unpack(asked, 9, 14)
    filter.from, filter.until_time, filter.leased_until, filter.finished_until = unpack(asked, 15, 18)
    is_final = IS_FINAL[wanted]
    local has_time = wanted == SCHEDULED or wanted == LEASED
    local heap = open(sources(filter.queue), limit)
    local records, looked, all_read, bytes, last_score, last_id = {}, 0, 0, 0, false, false
    while #heap > 0 do
      if #records == limit or looked == looked_max or all_read >= read_max then
        return { records, last_score, last_id, now }
      end
      local id, at = heap[1].id, heap[1].score
      local record, length, read = look_at(id, has_time and score(at), filter, has_payloads)
      all_read = all_read + read
      if record then
        bytes = bytes + length
        if bytes > bytes_max and #records > 0 then
          return { records, last_score, last_id, now }
        end
        records[#records + 1] = record
      end
      looked, last_score, last_id = looked + 1, score(at), id
      drop_first(heap)
    end
    return { records, false, false, now }
  end
end
