-- Records how runs ended, one after the other, each whole or not at all.
--
-- KEYS[7..]  `run:<id>` of each settlement, then whatever keys they refer to by their place in KEYS
-- asked      { log lines kept, how many settlements, and of each by turns: lease, what, delay, why or false, output or
--              false, ran or false, progress or false, log lines or false, keep of the dead, keep of the others,
--              effects or false }
-- effects    { { place of `state:<plugin>:<key>`, value or false, by turns }, { place, write, value, ttl, by turns },
--              { jobs as in create.lua } }
-- returns    for each settlement: LOST, APPLIED, or the key of the state that was in conflict

local LOST, APPLIED = 0, 1
local SUCCEED, RETRY, RELEASE, BURY, CANCEL_IT = 1, 2, 3, 4, 5
local DELETE, SET, ADD = 1, 2, 3

local PLACES = 11

local lines_kept, count = unpack(asked, 1, 2)
local runs = runs_of_batch(count)
local ended = {}

-- The key of the first expectation that doesn't hold, or else of the first sum that can't be made. Sums are written
-- down where the amounts were, so that nothing is left to fail once writing has begun.
local function conflict_in(expectations, writes)
  for n = 1, #expectations, 2 do
    local key = KEYS[expectations[n]]
    if state_at(key) ~= expectations[n + 1] then
      return key
    end
  end
  for n = 1, #writes, 4 do
    if writes[n + 1] == ADD then
      local key = KEYS[writes[n]]
      local stored = state_at(key)
      local total = add(stored or '0', writes[n + 2])
      if not total then
        return key
      end
      writes[n + 2], writes[n + 3] = total, stored ~= false
    end
  end
  return nil
end

local function write_state(key, what, value, ttl)
  if what == DELETE then
    call('DEL', key)
  elseif what == SET then
    set_state(key, value, ttl)
  elseif ttl then
    -- For a sum: whether there was a number, whose time to live stays.
    call('SET', key, value, 'KEEPTTL')
  else
    call('SET', key, value)
  end
end

local function write_effects(effects)
  local _, writes, jobs = unpack(effects)
  for n = 1, #writes, 4 do
    write_state(KEYS[writes[n]], writes[n + 1], writes[n + 2], writes[n + 3])
  end
  for first = 1, #jobs, JOB_PLACES do
    create(jobs, first)
  end
end

local function counts_as_attempt(what)
  return what == SUCCEED or what == RETRY or what == BURY
end

local function goes_on(what)
  return what == RETRY or what == RELEASE
end

local function end_run(key, run, what, first, priority, queue)
  local delay, why, output, ran, progress, lines, keep_dead, keep_done = unpack(asked, first + 2, first + 9)
  local id = id_of(key)
  keep_report(id, run, progress, lines, lines_kept)
  run[RAN] = ran_in_all(run[RAN], ran)
  run[WHY] = why
  if counts_as_attempt(what) then
    run[ATTEMPTS] = run[ATTEMPTS] + 1
  end
  if what == SUCCEED then
    run[OUTPUT] = output
    make_final(id, run, SUCCEEDED, keep_done)
  elseif what == BURY then
    make_final(id, run, DEAD, keep_dead)
  elseif what == CANCEL_IT then
    make_cancelled(id, run, keep_done)
  else
    run[STATE] = READY
    make_waiting(id, priority, queue, delay)
  end
  ended[#ended + 1] = id
  save_run(key, run)
end

local function settle(key, run, first)
  local lease, what, effects = asked[first], asked[first + 1], asked[first + PLACES - 1]
  if not holds(run, lease) then
    local is_repetition = run and run[STATE] ~= LEASED and run[LEASE] == lease
    return is_repetition and APPLIED or LOST
  end
  local conflict = effects and conflict_in(effects[1], effects[2])
  if conflict then
    return conflict
  end
  if run[CANCEL] and goes_on(what) then
    what = CANCEL_IT
  end
  local priority, queue
  if goes_on(what) then
    priority, queue = head_of(id_of(key))
    if not priority then
      -- The job is unreadable. Whoever takes its lease back will say so.
      return LOST
    end
  end
  end_run(key, run, what, first, priority, queue)
  if effects then
    write_effects(effects)
  end
  return APPLIED
end

local replies = {}
for n = 1, count do
  replies[n] = settle(KEYS[FIXED_KEYS + n], runs[n], 3 + (n - 1) * PLACES)
end
flush_runs()
call_with_all('ZREM', LEASES, ended)
flush_finals()
flush_waiting()
return replies
