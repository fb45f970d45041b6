-- What happened to a job since its producer asked for it: a MessagePack array with these places, at `run:<id>`.
-- A job that was never leased or cancelled has none. What is not there is `false`.

local STATE, ATTEMPTS, EXPIRIES, LEASE, LEASED_AT, UNIQUE_KEY, CANCEL = 1, 2, 3, 4, 5, 6, 7
local FINISHED_AT, RAN, WHY, PROGRESS, OUTPUT = 8, 9, 10, 11, 12

-- As in `State::ALL`. A job that waits is stored as ready: whether it is scheduled is told by the schedule, so that
-- nothing of the job has to be touched when it becomes due.
local SCHEDULED, READY, LEASED, SUCCEEDED, DEAD, CANCELLED = 0, 1, 2, 3, 4, 5

local WHY_CANCELLED = cmsgpack.pack({ 'cancelled', false })

-- How the bytes at `job:<id>` begin: layout, when it was enqueued, priority, queue, unique key. The kind and the
-- payload follow, which no script looks into.
local LAYOUT = 1
local HEAD = '>BI6BBc0I2c0'
local HEAD_BYTES_MAX = 1 + 6 + 1 + 1 + 63 + 2 + 256

-- Priority, queue, and unique key or false; nothing if the bytes are no job's.
local function read_head(job)
  local is_whole, layout, _, priority, queue, unique = pcall(struct.unpack, HEAD, job)
  if is_whole and layout == LAYOUT then
    return priority, queue, unique ~= '' and unique
  end
end

local function head_of(id)
  return read_head(call('GETRANGE', job_key(id), 0, HEAD_BYTES_MAX - 1))
end

local function new_run(unique)
  return { READY, 0, 0, 0, false, unique, false, false, false, false, false, false }
end

-- None if there are no bytes, or not those of a run.
local function read_run(packed)
  local is_whole, run = pcall(cmsgpack.unpack, packed)
  return is_whole and type(run) == 'table' and run or nil
end

-- The run of a job that has one, or else a new one; none if there is no such job.
local function run_of(id)
  local packed = call('GET', run_key(id))
  if packed then
    return read_run(packed)
  end
  local priority, _, unique = head_of(id)
  return priority and new_run(unique)
end

-- Runs to be written are gathered as keys and values, and `flush_runs` writes them together.
local changed_runs = {}

local function save_run(key, run)
  local n = #changed_runs
  changed_runs[n + 1] = key
  changed_runs[n + 2] = cmsgpack.pack(run)
end

local function flush_runs()
  for first = 1, #changed_runs, SLICE do
    call('MSET', unpack(changed_runs, first, math.min(first + SLICE - 1, #changed_runs)))
  end
  changed_runs = {}
end
