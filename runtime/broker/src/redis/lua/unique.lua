-- Who holds which unique key, with what the call itself changes about it.
--
-- A key whose rule isn't the usual one may have an end, and a time past which later jobs put nothing off. These are the scores of two
-- ZSETs, `unique_ends` and `unique_deadlines`, whose members are the id of the holder and the key: so what is left there of a job that
-- holds the key no more means nothing, and a sweep removes it.

local unique = {}

do
  local holders -- by unique key: the id of the job that holds it, or false
  local changed -- unique keys, in order of the first change
  local is_changed
  local left, left_by -- unique keys that jobs leave, if they hold them; and by key the ids of those jobs
  local waiting_now -- by id: whether this call makes a job wait that has run

  function unique.start()
    holders, changed, is_changed, left, left_by, waiting_now = nil, nil, nil, nil, nil, nil
  end

  local function ends_key()
    return PREFIX .. 'unique_ends'
  end

  local function deadlines_key()
    return PREFIX .. 'unique_deadlines'
  end

  local function begin_changes()
    if not holders then
      holders, changed, is_changed, left, left_by = {}, {}, {}, {}, {}
    end
  end

  local function change(key, holder)
    begin_changes()
    holders[key] = holder
    if not is_changed[key] then
      is_changed[key] = true
      changed[#changed + 1] = key
    end
  end

  function unique.holder(key)
    begin_changes()
    local holder = holders[key]
    if holder == nil then
      holder = call('HGET', UNIQUE, key)
      if holder and left_by[key] and left_by[key][holder] then
        change(key, false)
        holder = false
      elseif holder then
        local ends = call('ZSCORE', ends_key(), holder .. key)
        holder = (not ends or tonumber(ends) > now) and holder
      end
      holders[key] = holder
    end
    return holder
  end

  -- Has a job hold a key, by a rule as `jobs.rule` tells it, or by the usual one. Returns the time past which later jobs put nothing
  -- off, if there is one.
  function unique.claim(key, id, rule)
    change(key, id)
    if rule and rule.lasts then
      writes.pair('ZADD', ends_key(), score(now + rule.lasts), id .. key)
    end
    if rule and rule.on_clash == DEBOUNCE then
      writes.pair('ZADD', deadlines_key(), score(now + rule.longest), id .. key)
      return now + rule.longest
    end
  end

  function unique.deadline(key, id)
    return tonumber(call('ZSCORE', deadlines_key(), id .. key) or nil)
  end

  -- Says when a key is free in any case.
  function unique.ends_at(key, id, ends)
    writes.pair('ZADD', ends_key(), score(ends), id .. key)
  end

  -- Says that a job holds a key no more.
  function unique.free(key, id)
    begin_changes()
    local holder = holders[key]
    if holder == nil then
      if not left_by[key] then
        left[#left + 1], left_by[key] = key, {}
      end
      left_by[key][id] = true
    elseif holder == id then
      change(key, false)
    end
  end

  -- The same, and forgets when it would have ended.
  function unique.free_early(key, id)
    unique.free(key, id)
    writes.value('ZREM', ends_key(), id .. key)
    writes.value('ZREM', deadlines_key(), id .. key)
  end

  -- Forgets keys of this ZSET's members, whose time is over.
  function unique.forget(members)
    for _, member in ipairs(members) do
      unique.free(sub(member, 27), sub(member, 1, 26))
      writes.value('ZREM', deadlines_key(), member)
    end
  end

  function unique.ends()
    return ends_key()
  end

  -- Says that a job with a unique key, which has run, waits again.
  function unique.waits(id)
    waiting_now = waiting_now or {}
    waiting_now[id] = true
  end

  function unique.is_waiting_now(id)
    return waiting_now and waiting_now[id]
  end

  -- Looks by one command who holds the keys that are left.
  local function settle_left()
    local keys_left = {}
    for _, key in ipairs(left) do
      if holders[key] == nil then
        keys_left[#keys_left + 1] = key
      end
    end
    for first = 1, #keys_left, SLICE do
      local last = min(first + SLICE - 1, #keys_left)
      local found = call('HMGET', UNIQUE, unpack(keys_left, first, last))
      for n = first, last do
        local holder = found[n - first + 1]
        if holder and left_by[keys_left[n]][holder] then
          change(keys_left[n], false)
        end
      end
    end
  end

  function unique.finish()
    if not holders then
      return
    end
    settle_left()
    for _, key in ipairs(changed) do
      if holders[key] then
        writes.pair('HSET', UNIQUE, key, holders[key])
      else
        writes.value('HDEL', UNIQUE, key)
      end
    end
  end
end
