-- The creation of one job, of which six places of a list tell, from this one on: the place of its `job:<id>` in KEYS,
-- delay, priority, queue, unique key or false, the bytes of the job from its priority on.
--
-- Returns the id of the job that holds the unique key, if another one does.
local JOB_PLACES = 6

local function create(list, first)
  local place, delay, priority, queue, unique, bytes = unpack(list, first, first + JOB_PLACES - 1)
  local key = KEYS[place]
  local id = id_of(key)
  local job = struct.pack('>BI6', LAYOUT, now) .. bytes
  if unique then
    if call('EXISTS', key) == 1 then
      return nil
    end
    local holder = call('HGET', UNIQUE, unique)
    if holder then
      return holder
    end
    call('HSET', UNIQUE, unique, id)
    call('SET', key, job)
  elseif not call('SET', key, job, 'NX') then
    return nil
  end
  make_waiting(id, priority, queue, delay)
  return nil
end
