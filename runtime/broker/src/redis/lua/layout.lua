-- What is stored of a job, in bytes. The numbers by name come from Rust.
--
-- `job:<id>` begins with: layout, when it was enqueued, priority, unique key, queue. What follows, no function looks
-- into: the revision that it is pinned to (in layout PINNED alone), the kind and the payload.
--
-- `run:<id>` is what happened to the job since its producer asked for it. A job that was never leased or cancelled has
-- none. It has two parts:
--
-- - a head of fixed length: state, whether somebody wants it cancelled, attempts, expiries, the number of its lease,
--   when it was leased and when it finished (0 if it wasn't). The higher half of its first byte is its version;
-- - a tail, which mostly goes through unopened: a MessagePack array of unique key, usage, reason, progress and output,
--   each `false` if there is none. What a later version puts behind them stays there.
--
-- A job that waits is stored as ready: whether it is scheduled is told by the schedule, so that nothing of the job has
-- to be touched when it becomes due.

local JOB_HEAD = '>BI6BI2c0Bc0'
local JOB_HEAD_BYTES_MAX = 1 + 6 + 1 + 2 + 256 + 1 + 63

local RUN_HEAD = '>BBI4I4I6I6I6'
local RUN_HEAD_BYTES = 1 + 1 + 4 + 4 + 6 + 6 + 6

local jobs = {}

do
  -- Priority, queue, and unique key or false; nothing if the bytes are no job's that this version knows.
  function jobs.read(bytes)
    -- What stands for a key of another type has no length.
    local layout = bytes and #bytes > 0 and byte(bytes, 1)
    if layout ~= ANY_REVISION and layout ~= PINNED then
      return nil
    end
    local is_whole, _, _, priority, unique, queue = pcall(unpack_bytes, JOB_HEAD, bytes)
    if is_whole then
      return priority, queue, unique ~= '' and unique
    end
  end

  function jobs.head(id)
    return jobs.read(reads.try('GETRANGE', JOB_KEY .. id, 0, JOB_HEAD_BYTES_MAX - 1))
  end
end

local runs = {}

do
  -- The numbers of a head, in their order; nothing if the bytes are no run's that this version knows.
  function runs.head(packed)
    if not packed or #packed < RUN_HEAD_BYTES or byte(packed, 1) >= NEXT_VERSION then
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

  -- That of a job to which nothing happened yet.
  function runs.new(unique)
    return {
      state = READY, cancel = 0, attempts = 0, expiries = 0, lease = 0, leased_at = 0, finished_at = 0,
      places = { unique, false, false, false, false },
    }
  end

  function runs.pack(run)
    local head = pack_bytes(
      RUN_HEAD, run.state, run.cancel, run.attempts, run.expiries, run.lease, run.leased_at, run.finished_at
    )
    return head .. pack_values(run.places)
  end

  -- The run of a job and the head of the job: priority and queue. Nothing if there is no such job; `reads.ALIEN` if one of
  -- them can't be read.
  function runs.of(id)
    local job = reads.try('GETRANGE', JOB_KEY .. id, 0, JOB_HEAD_BYTES_MAX - 1)
    if job == '' then
      return nil
    end
    local priority, queue, unique = jobs.read(job)
    local packed = reads.try('GET', RUN_KEY .. id)
    local run = runs.new(unique)
    if packed then
      run = runs.read(packed)
    end
    if not priority or not run then
      return reads.ALIEN
    end
    return run, priority, queue
  end

  function runs.save(id, run)
    writes.string(RUN_KEY .. id, runs.pack(run))
  end
end

-- What a function answers about a job that can't be read.
local function unreadable(id)
  return redis.error_reply('UNREADABLE ' .. JOB_KEY .. id)
end
