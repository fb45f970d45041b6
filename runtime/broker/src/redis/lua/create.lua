-- Creates the job that is told of at `position` of a batch, under `key`, which is its `job:<id>`.
--
-- Returns the position after it, and the id of the job that holds the unique key if another one does.
local function create(key, jobs, position)
  local delay, layout, priority, queue, unique, bytes, after = unpack_bytes(JOB, jobs, position)
  local id = id_of(key)
  local job = pack_bytes(JOB_START, layout, now) .. bytes
  if unique ~= '' then
    if call('EXISTS', key) == 1 then
      return after
    end
    local holder = call('HGET', UNIQUE, unique)
    if holder then
      return after, holder
    end
    call('HSET', UNIQUE, unique, id)
    call('SET', key, job)
  elseif not call('SET', key, job, 'NX') then
    return after
  end
  make_waiting(id, priority, queue, delay)
  return after
end
