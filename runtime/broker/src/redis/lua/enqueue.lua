-- Stores jobs.
--
-- KEYS[7..]  `job:<id>` of each job, then `ready:<queue>` of each queue that they name
-- asked      how many jobs
-- batch      the jobs, as in create.lua
-- returns    nothing if all are stored, or else for each job: nothing, or the id of the job that holds its unique key

-- Most batches are all new, and without unique keys. They are stored with one command.
local function create_all()
  local jobs, waiting = {}, {}
  local position = 1
  for n = 1, asked do
    local key = KEYS[FIXED_KEYS + n]
    local delay, layout, priority, queue, unique, bytes, after = unpack_bytes(JOB, batch, position)
    if unique ~= '' then
      return false
    end
    jobs[2 * n - 1], jobs[2 * n] = key, pack_bytes(JOB_START, layout, now) .. bytes
    waiting[n] = { id_of(key), priority, queue, delay }
    position = after
  end
  if #jobs > SLICE or call('MSETNX', unpack(jobs)) == 0 then
    return false
  end
  for n = 1, asked do
    make_waiting(unpack(waiting[n]))
  end
  return true
end

local function create_one_by_one()
  local replies = {}
  local position = 1
  for n = 1, asked do
    local holder
    position, holder = create(KEYS[FIXED_KEYS + n], batch, position)
    replies[n] = holder or ''
  end
  return replies
end

local replies = not create_all() and create_one_by_one()
flush_waiting()
return replies
