-- Any call that leasing.lua describes.

local left_undone = false

-- Members of a ZSET with a score up to `until_score`; none if the first one's is greater.
local function sweep(key, until_score)
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if not first[2] or tonumber(first[2]) > until_score then
    return {}
  end
  local members = call('ZRANGE', key, '-inf', until_score, 'BYSCORE', 'LIMIT', 0, sweep_max)
  call('ZREMRANGEBYRANK', key, 0, #members - 1)
  left_undone = left_undone or #members == sweep_max
  return members
end

local function promote()
  for _, member in ipairs(sweep(SCHEDULE, now)) do
    make_ready(sub(member, 1, 26), byte(member, 27), sub(member, 28))
  end
end

local buried, unreadable = {}, {}

local function take_back_one(id, run)
  run[EXPIRIES] = run[EXPIRIES] + 1
  run[LEASE] = run[LEASE] + 1
  if run[EXPIRIES] > expiries_max then
    set_in_tail(run, WHY, why_buried)
    make_final(id, run, DEAD, keep_dead)
    buried[#buried + 1] = id
  elseif run[CANCEL] == 1 then
    make_cancelled(id, run, keep_cancelled)
  else
    run[STATE] = READY
    local priority, queue = head_of(id)
    if not priority then
      unreadable[#unreadable + 1] = id
      return
    end
    make_ready(id, priority, queue)
  end
  save_run(RUN_KEY .. id, run)
end

local function take_back()
  local ids = sweep(LEASES, now)
  local keys = {}
  for n, id in ipairs(ids) do
    keys[n] = RUN_KEY .. id
  end
  for n, packed in ipairs(get_all(keys)) do
    local run = read_run(packed)
    if run then
      take_back_one(ids[n], run)
    else
      unreadable[#unreadable + 1] = ids[n]
    end
  end
  flush_runs()
end

local function remove_of(class, count)
  if class == STATE_CLASS then
    local swept = sweep_state(count)
    expiring_has_changed()
    return swept
  end
  local key = CLASS_KEY .. class
  local ids = call('ZRANGE', key, '-inf', now - keep_of(class), 'BYSCORE', 'LIMIT', 0, count)
  local keys = {}
  for _, id in ipairs(ids) do
    keys[#keys + 1] = JOB_KEY .. id
    keys[#keys + 1] = RUN_KEY .. id
    keys[#keys + 1] = LOG_KEY .. id
  end
  if #ids > 0 then
    call('ZREMRANGEBYRANK', key, 0, #ids - 1)
    call('UNLINK', unpack(keys))
  end
  class_has_changed(class)
  return #ids
end

local function remove()
  local room = sweep_max
  while room > 0 do
    local first = call('ZRANGE', FINALS, 0, 0, 'WITHSCORES')
    if not first[2] or tonumber(first[2]) > now then
      return
    end
    room = room - remove_of(first[1], room)
  end
  left_undone = true
end

local leases = {}

-- The run that a job has now that it is leased: its bytes, the number of the lease and the attempts so far.
local function lease_one(job, packed)
  if not packed and is_plain(job) then
    return first_run, 1, 0
  end
  local priority, _, unique = read_head(job)
  local run = new_run(unique)
  if packed then
    run = read_run(packed)
  end
  if not priority or not run then
    return nil
  end
  run[STATE], run[LEASE], run[LEASED_AT] = LEASED, run[LEASE] + 1, now
  return pack_run(run), run[LEASE], run[ATTEMPTS]
end

local function hand_out(ids)
  local job_keys, run_keys = {}, {}
  for n = 1, #ids do
    local id = ids[n]
    job_keys[n], run_keys[n] = JOB_KEY .. id, RUN_KEY .. id
  end
  local jobs, runs = get_all(job_keys), get_all(run_keys)
  for n = 1, #ids do
    local id, job = ids[n], jobs[n]
    local run, lease, attempts = lease_one(job or '', runs[n])
    if run then
      local r, l = #changed_runs, #leases
      changed_runs[r + 1], changed_runs[r + 2] = run_keys[n], run
      leases[l + 1] = id .. pack_bytes(LEASE_HEAD, lease, attempts) .. job
    else
      unreadable[#unreadable + 1] = id
    end
  end
  flush_runs()
  -- Ids mostly rise. The other way round each finds its place first among those that expire at the same time, and the
  -- search of a small ZSET, which is from its start, is short.
  local expiries = {}
  for l = #leases, 1, -1 do
    local n = #expiries
    expiries[n + 1], expiries[n + 2] = expires, sub(leases[l], 1, 26)
  end
  call_with_all('ZADD', LEASES, expiries)
end

local function take()
  local ids = {}
  for n = 1, #queues, 2 do
    local queue, most = queues[n], queues[n + 1]
    local first, is_all = first_ready(queue, most)
    take_ready(queue, #first, is_all)
    for _, id in ipairs(first) do
      ids[#ids + 1] = id
    end
  end
  hand_out(ids)
end

-- Numbers of 64 bits, as bytes; no bound is never reached.
local function reaches(spent, bound)
  if not bound then
    return false
  end
  local high, low = unpack_bytes('>I4I4', spent)
  local bound_high, bound_low = unpack_bytes('>I4I4', bound)
  return high > bound_high or (high == bound_high and low >= bound_low)
end

local function fuel_spent()
  local of_day, of_minute, minute = fuel_of_all(call('HGET', usage_key(today()), OF_ALL))
  return minute == this_minute() and of_minute or NO_FUEL, of_day
end

local spent = {}
local is_held = false
if quota then
  local of_minute, of_day = fuel_spent()
  spent = { now, of_minute, of_day }
  is_held = reaches(of_minute, quota[1]) or reaches(of_day, quota[2])
end

promote()
take_back()
remove()
local were_empty = flush_ready()
if not is_held then
  take()
end
flush_finals()
flush_sizes()
for _, queue in ipairs(were_empty) do
  if call('SISMEMBER', QUEUES, queue) == 1 then
    wake()
    break
  end
end
local ask_at = left_undone and 0 or ask_again(first_score(SCHEDULE), first_score(LEASES))
return { ask_at, buried, unreadable, leases, spent }
