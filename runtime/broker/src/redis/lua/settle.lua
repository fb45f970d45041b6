-- Any batch of settlements, as settlement.lua describes it.

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
      local stored, expires = state_at(key)
      local total = add(stored or '0', writes[n + 2])
      if not total then
        return key
      end
      writes[n + 2], writes[n + 3] = total, expires
    elseif writes[n + 1] == REPLACE then
      local _, expires = state_at(KEYS[writes[n]])
      writes[n + 3] = expires
    end
  end
  return nil
end

-- What there would be too much of, if anything. What doesn't grow may always change.
local function excess_of(writes, bytes_max, keys_max)
  if #writes == 0 then
    return nil
  end
  sweep_all_state()
  local size = read_size(plugin_and_key(sub(KEYS[writes[1]], #STATE_KEY + 1)))
  local bytes, keys = size[1], size[2]
  for n = 1, #writes, 4 do
    local key = KEYS[writes[n]]
    local _, own_key = plugin_and_key(sub(key, #STATE_KEY + 1))
    local stored = state_at(key)
    if stored then
      bytes, keys = bytes - #own_key - #stored, keys - 1
    end
    if writes[n + 1] ~= DELETE then
      bytes, keys = bytes + #own_key + #writes[n + 2], keys + 1
    end
  end
  if bytes > bytes_max and bytes > size[1] then
    return TOO_MANY_BYTES
  end
  return keys > keys_max and keys > size[2] and TOO_MANY_KEYS or nil
end

local function write_state(key, what, value, ttl)
  if what == DELETE then
    put_state(key, false, 0)
  elseif what == SET then
    put_state(key, value, ttl and math.min(now + ttl, NEVER) or 0)
  else
    -- A sum, or another value in the place of one, goes when that would have gone.
    put_state(key, value, ttl)
  end
end

local function write_effects(writes, count_jobs, first_place, jobs)
  for n = 1, #writes, 4 do
    write_state(KEYS[writes[n]], writes[n + 1], writes[n + 2], writes[n + 3])
  end
  local position = 1
  for n = 0, count_jobs - 1 do
    position = create(KEYS[first_place + n], jobs, position)
  end
end

local function counts_as_attempt(what)
  return what == SUCCEED or what == RETRY or what == BURY
end

local function goes_on(what)
  return what == RETRY or what == RELEASE
end

-- The tail of this run, on top of what earlier ones have left.
local function add_tail(run, tail)
  local before = run[OPEN]
  if not before then
    run[TAIL] = tail
    return
  end
  local after = cmsgpack.unpack(tail)
  after[UNIQUE_KEY] = before[UNIQUE_KEY]
  after[RAN] = ran_in_all(before[RAN], after[RAN])
  after[PROGRESS] = after[PROGRESS] or before[PROGRESS]
  run[TAIL], run[OPEN] = cmsgpack.pack(after), after
end

local function as_cancelled(tail)
  local places = cmsgpack.unpack(tail)
  places[WHY] = WHY_CANCELLED
  return cmsgpack.pack(places)
end

local function end_run(key, run, what, delay, keep, priority, queue)
  local id = id_of(key)
  if counts_as_attempt(what) then
    run[ATTEMPTS] = run[ATTEMPTS] + 1
  end
  if what == SUCCEED then
    make_final(id, run, SUCCEEDED, keep)
  elseif what == BURY then
    make_final(id, run, DEAD, keep)
  elseif what == CANCEL_IT then
    make_final(id, run, CANCELLED, keep)
  else
    run[STATE] = READY
    make_waiting(id, priority, queue, delay)
  end
  ended[#ended + 1] = id
  save_run(key, run)
end

local recorded_as -- what the last settlement that was applied is recorded as

local function apply(key, run, what, delay, keep, tail, lines, effects)
  effects = effects ~= '' and cmsgpack.unpack(effects)
  local refusal = effects
    and (conflict_in(effects[1], effects[2]) or excess_of(effects[2], effects[6], effects[7]))
  if refusal then
    return refusal
  end
  if run[CANCEL] == 1 and goes_on(what) then
    what, tail = CANCEL_IT, as_cancelled(tail)
  end
  local priority, queue
  if goes_on(what) then
    priority, queue = head_of(id_of(key))
    if not priority then
      -- The job is unreadable. Whoever takes its lease back will say so.
      return LOST
    end
  end
  recorded_as = what
  append_log(id_of(key), lines, lines_kept)
  add_tail(run, tail)
  end_run(key, run, what, delay, keep, priority, queue)
  if effects then
    write_effects(unpack(effects, 2, 5))
  end
  return APPLIED
end

local function is_repetition(run, lease)
  return run and run[STATE] ~= LEASED and run[LEASE] == lease
end

local replies = {}
local runs_spent, is_as_sent = {}, true
local position = 1
for n = 1, count do
  local lease, what, delay, keep, tail, lines, effects, plugin, numbers
  lease, what, delay, keep, tail, lines, effects, plugin, numbers, position =
    unpack_bytes(SETTLEMENT, batch, position)
  local run = runs[n]
  recorded_as = nil
  if holds(run, lease) then
    replies[n] = apply(KEYS[FIXED_KEYS + n], run, what, delay, keep, tail, lines, effects)
  else
    replies[n] = is_repetition(run, lease) and APPLIED or LOST
  end
  if plugin > 0 then
    is_as_sent = is_as_sent and recorded_as == what
    if recorded_as then
      runs_spent[#runs_spent + 1] = { totals[2 * plugin - 1], recorded_as, numbers }
    end
  end
end
flush_runs()
call_with_all('ZREM', LEASES, ended)
flush_finals()
flush_waiting()
flush_sizes()
record_spent(is_as_sent and totals or spent_by(runs_spent), days_kept)
return replies
