-- What is stored of a job, in bytes. The numbers by name come from Rust.
--
-- `job:<id>` is: layout, when it was enqueued, priority, unique key (its length in 2 bytes), queue (in 1), the revision that
-- it is pinned to (32 bytes, in layout PINNED alone), the kind (its length in 1), and the payload. In layout WITH_OPTIONS the
-- revision has its length before it (in 1, 0 for none), and options stand before the payload (their length in 2): a MessagePack
-- array with a place for each, `false` where it is absent. What a later version puts behind those known here stays there.
--
-- `run:<id>` is what happened to the job since its producer asked for it. A job that was never leased or cancelled has
-- none. It has two parts:
--
-- - a head of fixed length: state, whether somebody wants it cancelled, attempts, expiries, the number of its lease,
--   when it was leased and when it finished (0 if it wasn't). The higher half of its first byte is its version;
-- - a tail, which mostly goes through unopened: a MessagePack array of unique key, usage, reason, progress and output,
--   each `false` if there is none; and behind them how often its host has failed on it, unless that is 0, how its latest
--   attempts ended, unless none has or its first one succeeded, and the mark of a job of a flow. What a later version puts
--   behind these stays there.
--
-- A job that waits is stored as ready: whether it is scheduled is told by the schedule, so that nothing of the job has
-- to be touched when it becomes due, and whether it is blocked likewise.

local JOB_HEAD = '>BI6BI2c0Bc0'
local JOB_HEAD_BYTES_MAX = 1 + 6 + 1 + 2 + 256 + 1 + 127 + 1 + 32 + 1 + 127 + 2 -- up to the payload, or the options

local JOB_START_AT = 1 + 6 + 1 -- where what the producer said begins: with the priority
local UNIQUE_AT = JOB_START_AT + 1 -- where the length of the unique key is

local RUN_HEAD = '>BBI4I4I6I6I6'
local RUN_HEAD_BYTES = 1 + 1 + 4 + 4 + 6 + 6 + 6
local WHOLE_RUN = RUN_HEAD .. 'c0' -- with the tail

local jobs = {}

do
  -- Priority, queue, and unique key or false; nothing if the bytes are no job's that this version knows.
  function jobs.read(bytes)
    -- What stands for a key of another type has no length.
    local layout = bytes and #bytes > 0 and byte(bytes, 1)
    if layout ~= ANY_REVISION and layout ~= PINNED and layout ~= WITH_OPTIONS then
      return nil
    end
    local is_whole, _, _, priority, unique, queue = pcall(unpack_bytes, JOB_HEAD, bytes)
    if is_whole then
      return priority, queue, unique ~= '' and unique
    end
  end

  -- How many bytes stand before the payload, where the length of the kind is, and where the kind ends: the options, if there are
  -- any, are between that and the payload. The bytes are a job's that can be read.
  function jobs.payload_at(bytes)
    local layout, high, low = byte(bytes, 1), byte(bytes, 9, 10)
    local queue_at = 11 + high * 256 + low
    local kind_at = queue_at + 1 + byte(bytes, queue_at)
    if layout == PINNED then
      kind_at = kind_at + 32
    elseif layout == WITH_OPTIONS then
      kind_at = kind_at + 1 + (byte(bytes, kind_at) or 0)
    end
    local kind_end = kind_at + (byte(bytes, kind_at) or 0)
    if layout == WITH_OPTIONS then
      local above, below = byte(bytes, kind_end + 1, kind_end + 2)
      return kind_end + 2 + (above or 0) * 256 + (below or 0), kind_at, kind_end
    end
    return kind_end, kind_at, kind_end
  end

  -- The options of a job that can be read; nothing if it has none, or they can't be read. The bytes are there up to its payload.
  local function options_of(bytes)
    if byte(bytes, 1) ~= WITH_OPTIONS then
      return nil
    end
    local payload_at, _, kind_end = jobs.payload_at(bytes)
    local is_whole, options = pcall(unpack_values, sub(bytes, kind_end + 3, payload_at))
    return is_whole and type(options) == 'table' and options or nil
  end

  -- The key of the group of a job that can be read, and the mark of a job of a flow; each nothing if it is in none. The bytes
  -- are there up to its payload.
  function jobs.membership(bytes)
    local options = options_of(bytes)
    if options then
      return options[GROUP_PLACE] or nil, options[FLOW_OPTION] or nil
    end
  end

  -- The key of the group of a job that can be read; nothing if it is in none.
  function jobs.group_of(bytes)
    return (jobs.membership(bytes))
  end

  -- The mark of a job of a flow that can be read; nothing if it is in none.
  function jobs.mark(bytes)
    local _, mark = jobs.membership(bytes)
    return mark
  end

  -- Of a job that is stored: priority, queue, unique key or false, how long its payload is, its kind, the key of its group or
  -- nothing, and the mark of a job of a flow or nothing. Nothing if it can't be read; false if there is none.
  function jobs.head(id)
    local bytes = reads.try('GETRANGE', JOB_KEY .. id, 0, JOB_HEAD_BYTES_MAX - 1)
    if bytes == '' then
      return call('EXISTS', JOB_KEY .. id) == 1 and nil
    end
    local priority, queue, unique_key = jobs.read(bytes)
    if priority then
      local payload_at, kind_at, kind_end = jobs.payload_at(bytes)
      local length = call('STRLEN', JOB_KEY .. id) - payload_at
      if payload_at > #bytes then
        bytes = call('GETRANGE', JOB_KEY .. id, 0, payload_at - 1)
      end
      return priority, queue, unique_key, length, sub(bytes, kind_at + 1, kind_end), jobs.membership(bytes)
    end
  end

  -- When a stored job was enqueued, which can be read.
  function jobs.enqueued_at(id)
    return (unpack_bytes('>I6', call('GETRANGE', JOB_KEY .. id, 1, 6)))
  end

  -- The time within which a job has to start, which has options; nothing if it needn't. The bytes may end before the payload.
  function jobs.start_within(bytes)
    local options = options_of(bytes)
    return options and tonumber(options[START_WITHIN_PLACE] or nil) or nil
  end

  -- Whether a job that can be read has these labels, names and values by turns. The bytes are there up to its payload.
  function jobs.has_labels(bytes, labels)
    local options, values = options_of(bytes), {}
    local own = options and options[LABELS_PLACE]
    for n = 1, type(own) == 'table' and #own or 0, 2 do
      values[own[n]] = own[n + 1]
    end
    for n = 1, #labels, 2 do
      if values[labels[n]] ~= labels[n + 1] then
        return false
      end
    end
    return true
  end

  -- The rule of a job's unique key: when it is free, and as far as there is such a thing after how many milliseconds in any case, what
  -- becomes of a job whose key is held, and the delay and longest wait of a debounce. Nothing if it is the usual one. The bytes are a
  -- job's that can be read, with its options.
  function jobs.rule(bytes)
    local options = options_of(bytes)
    local rule = options and options[UNIQUE_OPTION]
    if type(rule) ~= 'table' then
      return nil
    end
    return { ends = rule[1], lasts = rule[2], on_clash = rule[3], delay = rule[4], longest = rule[5] }
  end

  -- Of the unique key of a stored job, which may be false: the key if the end of the job frees it, or else false.
  function jobs.key_freed_at_end(id, unique_key)
    if not unique_key or byte(call('GETRANGE', JOB_KEY .. id, 0, 0), 1) ~= WITH_OPTIONS then
      return unique_key
    end
    local rule = jobs.rule(call('GET', JOB_KEY .. id))
    return not (rule and rule.ends == UNTIL_OVER) and unique_key
  end

  -- The bytes of a job that can be read, with this priority, and with this payload if there is one.
  function jobs.with(bytes, priority, payload)
    local payload_at = jobs.payload_at(bytes)
    local head = sub(bytes, 1, JOB_START_AT - 1) .. char(priority) .. sub(bytes, JOB_START_AT + 1, payload_at)
    return head .. (payload or sub(bytes, payload_at + 1))
  end

  -- The kind of a job that can be read.
  function jobs.kind_of(bytes)
    local _, kind_at, kind_end = jobs.payload_at(bytes)
    return sub(bytes, kind_at + 1, kind_end)
  end
end

local runs = {}

do
  -- The numbers of a head, in their order; nothing if the bytes are no run's that this version knows.
  function runs.head(packed)
    if not packed or #packed < RUN_HEAD_BYTES or byte(packed) >= NEXT_VERSION then
      return nil
    end
    return unpack_bytes(RUN_HEAD, packed)
  end

  -- The places of a tail; nothing if it can't be read.
  function runs.open(tail)
    local is_whole, places = pcall(unpack_values, tail)
    return is_whole and type(places) == 'table' and #places >= TAIL_PLACES and places or nil
  end

  -- A run as a table, which can be changed; nothing if it can't be read.
  function runs.read(packed)
    local state, cancel, attempts, expiries, lease, leased_at, finished_at = runs.head(packed)
    local places = state and runs.open(sub(packed, RUN_HEAD_BYTES + 1))
    return places and {
      state = state, cancel = cancel, attempts = attempts, expiries = expiries, lease = lease,
      leased_at = leased_at, finished_at = finished_at, places = places,
    }
  end

  -- That of a job to which nothing happened yet; `mark`: that of a job of a flow.
  function runs.new(unique, mark)
    return {
      state = READY, cancel = 0, attempts = 0, expiries = 0, lease = 0, leased_at = 0, finished_at = 0,
      places = mark and { unique, false, false, false, false, false, false, mark } or { unique, false, false, false, false },
    }
  end

  function runs.pack(run)
    local tail = pack_values(run.places)
    return pack_bytes(
      WHOLE_RUN, run.state, run.cancel, run.attempts, run.expiries, run.lease, run.leased_at, run.finished_at, tail
    )
  end

  -- The run of a job, and of the job priority, queue, how long its payload is, its kind, and the key of its group or nothing. Nothing
  -- if there is no such job; `reads.ALIEN` if one of them can't be read.
  function runs.of(id)
    local priority, queue, unique_key, length, kind, group, mark = jobs.head(id)
    if priority == false then
      return nil
    end
    local packed, run = reads.try('GET', RUN_KEY .. id), nil
    if packed then
      run = runs.read(packed)
    elseif priority then
      run = runs.new(jobs.key_freed_at_end(id, unique_key), mark)
    end
    if not priority or not run then
      return reads.ALIEN
    end
    return run, priority, queue, length, kind, group
  end

  -- How often its host has failed on a job, as the places of a tail say.
  function runs.faults_in(places)
    return tonumber(places[FAULTS]) or 0
  end

  -- Writes that down. A run without faults has no such place, unless there is one behind it.
  function runs.count_faults(places, faults)
    if faults > 0 then
      places[FAULTS] = faults
    elseif #places > FAULTS then
      places[FAULTS] = false
    else
      places[FAULTS] = nil
    end
  end

  -- Writes down how an attempt ended: its number, the number of its lease, when that was granted, the reason, what was spent and on
  -- which revision, and the daemon; each of the last three false if it isn't known, or there is none.
  function runs.add_attempt(places, attempt, lease, leased_at, why, ran, daemon)
    local history = places[HISTORY]
    if type(history) ~= 'table' then
      history = {}
    end
    history[#history + 1] = { attempt, lease, leased_at, now, why, ran, daemon }
    if #history > ATTEMPTS_KEPT then
      table.remove(history, 1)
    end
    places[FAULTS], places[HISTORY] = places[FAULTS] or false, history
  end

  function runs.save(id, run)
    writes.string(RUN_KEY .. id, runs.pack(run))
  end
end

-- What a look answers about a job that can't be read.
local function unreadable(id)
  return redis.error_reply('UNREADABLE ' .. JOB_KEY .. id)
end
