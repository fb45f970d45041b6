-- Mostly nothing is due, and the jobs that are handed out were never leased before. That is done here, by what the rest of
-- the script comes to then. To make its functions, which each call does anew, would take several times as long.

-- Returns what the script does; nothing, and nothing is written, if there is more to be done.
local function lease_plainly()
  if quota then
    return nil
  end
  local due, expiry = first_score(SCHEDULE), first_score(LEASES)
  if math.min(due, expiry, first_score(FINALS)) <= now then
    return nil
  end
  local taken, keys = {}, {} -- of each queue: its name, how many, whether that is all; of each job: its key, its run's
  local was_asked = {}
  for n = 1, #queues, 2 do
    local queue = queues[n]
    if was_asked[queue] then
      return nil
    end
    was_asked[queue] = true
    local ids, is_all = first_ready(queue, queues[n + 1])
    taken[#taken + 1] = { queue, #ids, is_all }
    for _, id in ipairs(ids) do
      local k = #keys
      keys[k + 1], keys[k + 2] = JOB_KEY .. id, RUN_KEY .. id
    end
  end
  if #keys == 0 or #keys > SLICE then
    return #keys == 0 and { ask_again(due, expiry), {}, {}, {}, {} } or nil
  end
  local stored = call('MGET', unpack(keys))
  local count = #keys / 2
  local runs, expiries, leases = {}, {}, {}
  for n = 1, count do
    local job, run = stored[2 * n - 1], stored[2 * n]
    if run or not job or not is_plain(job) then
      return nil
    end
    local id = id_of(keys[2 * n])
    runs[2 * n - 1], runs[2 * n] = keys[2 * n], first_run
    -- The other way round, as in the rest of the script.
    expiries[2 * (count - n) + 1], expiries[2 * (count - n) + 2] = expires, id
    leases[n] = id .. first_lease .. job
  end
  for _, of_queue in ipairs(taken) do
    take_ready(unpack(of_queue))
  end
  call('MSET', unpack(runs))
  call('ZADD', LEASES, unpack(expiries))
  return { ask_again(due, math.min(expiry, now + ttl)), {}, {}, leases, {} }
end

local leased = lease_plainly()
if leased then
  return leased
end
