-- Flows: jobs that wait for others.
--
-- A job of a flow bears a mark, in its options and in the tail of its run: the flow's id (26 bytes), bits (1: whether it comes after
-- others, 2: whether others come after it), and how long it waits once it is not blocked any more, in milliseconds (6 bytes).
--
-- `flow:<id>` HASH: the jobs of the flow that are kept, each with a MessagePack array: its place, its name, and of each job that it
--   comes after the id, the name and the code of `OnFailure`.
-- `open:<id>` STRING: the ids of the jobs that a blocked one still waits for. Whoever has none isn't blocked for its flow.
-- `after:<id>` STRING: the name of a job (its length in a byte), and of each job that comes after it the id and the code of
--   `OnFailure` (a byte). It goes once the job is removed and the edges are settled.
-- `blocked` ZSET: all jobs that are blocked, in order: those that wait for a turn of their group as well, see groups.lua.
-- `settled` ZSET: jobs that have ended and that others come after: id and the code of `ParentEnd` (a byte), by when; until their
--   edges are settled.

local flows = {}

do
  local ID_BYTES = 26
  local BITS_AT, DELAY_AT = ID_BYTES + 1, ID_BYTES + 2

  local revived -- by id: whether this call puts it back
  local queue, ended -- what has ended, in order, and each with its state: where edges are being settled; or nothing

  function flows.start()
    revived, queue, ended = {}, nil, nil
  end

  function flows.key(id)
    return PREFIX .. 'flow:' .. id
  end

  function flows.open_key(id)
    return PREFIX .. 'open:' .. id
  end

  function flows.after_key(id)
    return PREFIX .. 'after:' .. id
  end

  function flows.settled_key()
    return PREFIX .. 'settled'
  end

  local function has_parents(mark)
    return byte(mark, BITS_AT) % 2 == 1
  end

  local function has_dependants(mark)
    return floor(byte(mark, BITS_AT) / 2) % 2 == 1
  end

  function flows.delay_of(mark)
    return unpack_bytes('>I6', mark, DELAY_AT)
  end

  -- The ids of the jobs that a job waits for, one after the other; false if it isn't blocked for its flow.
  function flows.open(id, mark)
    return mark and has_parents(mark) and call('GET', flows.open_key(id))
  end

  -- Makes a job wait for these.
  function flows.block(id, open)
    writes.pair('ZADD', BLOCKED_KEY, score(groups.next_number()), id)
    writes.string(flows.open_key(id), open)
  end

  -- Says that a job isn't blocked any more.
  function flows.leave(id)
    writes.value('ZREM', BLOCKED_KEY, id)
    writes.remove(flows.open_key(id))
  end

  -- The ids of those of its parents for which a job has to wait that is put back; false if there are none. A parent that isn't kept
  -- any more isn't waited for.
  function flows.waits_again(id, mark)
    revived[id] = true
    local key = mark and has_parents(mark) and flows.key(sub(mark, 1, ID_BYTES))
    local node = key and call('HGET', key, id)
    if not node then
      return false
    end
    node = unpack_values(node)
    local parents, names = {}, {}
    for n = 3, #node, 3 do
      parents[#parents + 1], names[#names + 1] = node[n], RUN_KEY .. node[n]
    end
    local kept, packed, open = call('HMGET', key, unpack(parents)), reads.strings(names), {}
    for n, parent in ipairs(parents) do
      local is = READY
      if packed[n] and not revived[parent] then
        is = runs.head(packed[n])
      end
      if kept[n] and (not IS_FINAL[is] or (is ~= SUCCEEDED and node[3 * n + 2] ~= EDGE.ignore)) then
        open[#open + 1] = parent
      end
    end
    return #open > 0 and table.concat(open)
  end

  local function note(id, code)
    writes.pair('ZADD', flows.settled_key(), score(now), id .. char(code))
    tally.note_settled(true)
  end

  -- Says that a job has ended in this state.
  function flows.ended(id, mark, state)
    if not mark or not has_dependants(mark) then
      return
    end
    if queue then
      queue[#queue + 1], ended[id] = id .. char(state), state
    else
      note(id, state)
    end
  end

  -- Says that a job is removed, which was in this state if that was final.
  function flows.removed(id, mark, state)
    if not mark then
      return
    end
    writes.value('HDEL', flows.key(sub(mark, 1, ID_BYTES)), id)
    if has_dependants(mark) then
      note(id, (IS_FINAL[state] and state or CANCELLED) + EDGE.removed)
    end
  end

  -- The same of several final ones.
  function flows.all_removed(ids, state)
    local names = {}
    for n, id in ipairs(ids) do
      names[n] = RUN_KEY .. id
    end
    for n, packed in ipairs(reads.strings(names)) do
      local run = packed and runs.read(packed)
      flows.removed(ids[n], run and run.places[FLOW], state)
    end
  end

  -- Drops what is left to be settled, where no job is left.
  function flows.drop_all()
    for _, entry in ipairs(call('ZRANGE', flows.settled_key(), 0, -1)) do
      writes.remove(flows.after_key(sub(entry, 1, ID_BYTES)))
    end
    writes.remove(flows.settled_key())
    tally.note_settled(false)
  end

  -- From now on what ends goes into this list, and into a table by id.
  function flows.collect(list, states)
    queue, ended = list, states
  end
end
