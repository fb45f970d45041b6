-- Who holds which unique key, with what the call itself changes about it.

local unique = {}

do
  local holders -- by unique key: the id of the job that holds it, or false
  local changed -- unique keys, in order of the first change
  local is_changed

  function unique.start()
    holders, changed, is_changed = nil, nil, nil
  end

  local function begin_changes()
    if not holders then
      holders, changed, is_changed = {}, {}, {}
    end
  end

  function unique.holder(key)
    begin_changes()
    local holder = holders[key]
    if holder == nil then
      holder = call('HGET', UNIQUE, key)
      holders[key] = holder
    end
    return holder
  end

  local function change(key, holder)
    begin_changes()
    holders[key] = holder
    if not is_changed[key] then
      is_changed[key] = true
      changed[#changed + 1] = key
    end
  end

  function unique.claim(key, id)
    change(key, id)
  end

  function unique.free(key)
    change(key, false)
  end

  function unique.finish()
    for _, key in ipairs(changed or {}) do
      if holders[key] then
        writes.pair('HSET', UNIQUE, key, holders[key])
      else
        writes.value('HDEL', UNIQUE, key)
      end
    end
  end
end
