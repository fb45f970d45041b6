-- Makes ready what is due, takes back what has expired, removes what was kept long enough, and hands out leases.
--
-- asked      { ttl, most expiries, why a job with more is buried, most jobs in each of the three sweeps, keep of the
--              dead, keep of the cancelled, { queue, how many at most, and so on by turns } }
-- KEYS[7..]  `ready:<queue>` of each queue that is asked for
-- returns    { when to ask again in milliseconds or nil, ids of the buried, ids of jobs that can't be read and
--              were passed over, { id, lease, attempts, the bytes of the job, and so on by turns } }

local ttl, expiries_max, why_buried, sweep_max, keep_dead, keep_cancelled, queues = unpack(asked)
local expires = score(now + ttl)
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
    make_ready(string.sub(member, 1, 26), string.byte(member, 27), string.sub(member, 28))
  end
end

local buried, unreadable = {}, {}

local function take_back_one(id, run)
  run[EXPIRIES] = run[EXPIRIES] + 1
  run[LEASE] = run[LEASE] + 1
  if run[EXPIRIES] > expiries_max then
    run[WHY] = why_buried
    make_final(id, run, DEAD, keep_dead)
    buried[#buried + 1] = id
  elseif run[CANCEL] then
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
  save_run(run_key(id), run)
end

local function take_back()
  local ids = sweep(LEASES, now)
  local keys = {}
  for n, id in ipairs(ids) do
    keys[n] = run_key(id)
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
  local key = class_key(class)
  local ids = call('ZRANGE', key, '-inf', now - keep_of(class), 'BYSCORE', 'LIMIT', 0, count)
  local keys = {}
  for _, id in ipairs(ids) do
    keys[#keys + 1] = job_key(id)
    keys[#keys + 1] = run_key(id)
    keys[#keys + 1] = log_key(id)
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

local leases, expiries = {}, {}

local function hand_out_one(id, job, key, run)
  run[STATE], run[LEASE], run[LEASED_AT] = LEASED, run[LEASE] + 1, now
  save_run(key, run)
  local e, l = #expiries, #leases
  expiries[e + 1], expiries[e + 2] = expires, id
  leases[l + 1], leases[l + 2], leases[l + 3], leases[l + 4] = id, run[LEASE], run[ATTEMPTS], job
end

local function hand_out(ids)
  local job_keys, run_keys = {}, {}
  for n, id in ipairs(ids) do
    job_keys[n], run_keys[n] = job_key(id), run_key(id)
  end
  local jobs, runs = get_all(job_keys), get_all(run_keys)
  for n, id in ipairs(ids) do
    local job = jobs[n]
    local priority, _, unique = read_head(job)
    -- Most jobs were never leased before.
    local run = not runs[n] and new_run(unique) or read_run(runs[n])
    if priority and run then
      hand_out_one(id, job, run_keys[n], run)
    else
      unreadable[#unreadable + 1] = id
    end
  end
  flush_runs()
  call_with_all('ZADD', LEASES, expiries)
end

local function take()
  local ids = {}
  for n = 1, #queues, 2 do
    local taken = queues[n + 1] > 0 and take_ready(queues[n], queues[n + 1]) or {}
    for m = 1, #taken, 2 do
      ids[#ids + 1] = taken[m]
    end
  end
  hand_out(ids)
end

local function next_due()
  if left_undone then
    return 0
  end
  local due = call('ZRANGE', SCHEDULE, 0, 0, 'WITHSCORES')
  local expiry = call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')
  local next = math.min(tonumber(due[2]) or math.huge, tonumber(expiry[2]) or math.huge)
  return next < math.huge and math.min(math.max(next - now, 0), 2 ^ 53) or false
end

promote()
take_back()
remove()
local were_empty = flush_ready()
take()
flush_finals()
for _, queue in ipairs(were_empty) do
  if call('SISMEMBER', QUEUES, queue) == 1 then
    wake()
    break
  end
end
return { next_due(), buried, unreadable, leases }
