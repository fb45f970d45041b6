-- The creation of one job, as asked: { place of its `job:<id>` in KEYS, delay, priority, queue, unique key or false,
-- the bytes of the job from its priority on }.
--
-- Returns the id of the job that holds the unique key, if another one does.
local function create(job)
  local place, delay, priority, queue, unique, bytes = unpack(job)
  local key = KEYS[place]
  local id = id_of(key)
  local stored = struct.pack('>BI6', LAYOUT, now) .. bytes
  if unique then
    if call('EXISTS', key) == 1 then
      return nil
    end
    local holder = call('HGET', UNIQUE, unique)
    if holder then
      return holder
    end
    call('HSET', UNIQUE, unique, id)
    call('SET', key, stored)
  elseif not call('SET', key, stored, 'NX') then
    return nil
  end
  make_waiting(id, priority, queue, delay)
  return nil
end
