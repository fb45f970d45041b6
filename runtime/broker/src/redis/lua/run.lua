-- What happened to a job since its producer asked for it: a MessagePack array with these places, at `run:<id>`.
-- A job that was never leased, cancelled or buried has none. What is not there is `false`.

local STATE, PRIORITY, QUEUE, UNIQUE_KEY, ATTEMPTS, EXPIRIES, LEASE, LEASED_AT, CANCEL = 1, 2, 3, 4, 5, 6, 7, 8, 9
local FINISHED_AT, RAN, WHY, PROGRESS, OUTPUT = 10, 11, 12, 13, 14

-- As in `State::ALL`. A job that waits is stored as ready: whether it is scheduled is told by the schedule, so that
-- nothing of the job has to be touched when it becomes due.
local SCHEDULED, READY, LEASED, SUCCEEDED, DEAD, CANCELLED = 0, 1, 2, 3, 4, 5

-- How the bytes of `job:<id>` begin: layout, when it was enqueued, priority, queue, unique key. The kind and the
-- payload follow, which no script looks into.
local LAYOUT = 1
local HEAD = '>BI6BBc0I2c0'
local HEAD_BYTES_MAX = 1 + 6 + 1 + 1 + 63 + 2 + 256

local WHY_CANCELLED = cmsgpack.pack({ 'cancelled', false })

local function new_run(head)
  local layout, _, priority, queue, unique = struct.unpack(HEAD, head)
  if layout ~= LAYOUT then
    return nil
  end
  unique = unique ~= '' and unique
  return { READY, priority, queue, unique, 0, 0, 0, false, false, false, false, false, false, false }
end

-- The run of a job that has one, or else a new one; none if there is no such job.
local function run_of(id)
  local packed = call('GET', run_key(id))
  if packed then
    return cmsgpack.unpack(packed)
  end
  local head = call('GETRANGE', job_key(id), 0, HEAD_BYTES_MAX - 1)
  return head ~= '' and new_run(head) or nil
end

-- Runs to be written are gathered as keys and values, and `flush_runs` writes them together.
local changed_runs = {}

local function save_run(id, run)
  local n = #changed_runs
  changed_runs[n + 1] = run_key(id)
  changed_runs[n + 2] = cmsgpack.pack(run)
end

local function flush_runs()
  for first = 1, #changed_runs, SLICE do
    call('MSET', unpack(changed_runs, first, math.min(first + SLICE - 1, #changed_runs)))
  end
  changed_runs = {}
end
