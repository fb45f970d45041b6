-- Reading and writing what layout.lua describes.

local function is_known(layout)
  return layout == ANY_REVISION or layout == PINNED
end

-- Priority, queue, and unique key or false; nothing if the bytes are no job's.
local function read_head(job)
  local is_whole, layout, _, priority, unique, queue = pcall(unpack_bytes, JOB_HEAD, job)
  if is_whole and is_known(layout) then
    return priority, queue, unique ~= '' and unique
  end
end

local function head_of(id)
  return read_head(call('GETRANGE', JOB_KEY .. id, 0, JOB_HEAD_BYTES_MAX - 1))
end

local function new_run(unique)
  local places = { unique, false, false, false, false }
  return { READY, 0, 0, 0, 0, 0, 0, unique and cmsgpack.pack(places) or EMPTY_TAIL, unique and places }
end

-- None if there are no bytes, or not those of a run: nothing may fail once a script has begun to write.
local function read_run(packed)
  if not packed or #packed < RUN_HEAD_BYTES then
    return nil
  end
  local run = { unpack_bytes(RUN_HEAD, packed) }
  local tail = sub(packed, RUN_HEAD_BYTES + 1)
  run[TAIL] = tail
  if tail ~= EMPTY_TAIL then
    local is_whole, places = pcall(cmsgpack.unpack, tail)
    if not is_whole or type(places) ~= 'table' then
      return nil
    end
    run[OPEN] = places
  end
  return run
end

local function pack_run(run)
  return pack_bytes(RUN_HEAD, unpack(run, 1, FINISHED_AT)) .. run[TAIL]
end

local function in_tail(run, place)
  return run[OPEN] and run[OPEN][place]
end

local function set_in_tail(run, place, value)
  local places = run[OPEN] or { false, false, false, false, false }
  places[place] = value
  run[TAIL], run[OPEN] = cmsgpack.pack(places), places
end

-- The run of a job that has one, or else a new one; none if there is no such job.
local function run_of(id)
  local packed = call('GET', RUN_KEY .. id)
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
  changed_runs[n + 2] = pack_run(run)
end

local function flush_runs()
  for first = 1, #changed_runs, SLICE do
    call('MSET', unpack(changed_runs, first, math.min(first + SLICE - 1, #changed_runs)))
  end
  changed_runs = {}
end
