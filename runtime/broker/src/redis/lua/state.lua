-- A plugin's state: STRINGs at `state:<plugin>:<key>`, of six bytes that say when the value goes (0: never), and the value.
-- How much of it there is, is in a HASH at `sizes`: `<plugin>:bytes` (keys and values) and `<plugin>:keys`. Values that go
-- are also in a ZSET at `expiring`, by when; whoever finds their time over takes them away, and out of the sizes.
-- Redis's own expiry wouldn't tell, so the sizes would not be exact.
--
-- What is read and what is changed stands in an overlay until the call is decided.

local state = {}

do
  local EXPIRES = '>I6'
  local EXPIRES_BYTES = 6
  local FOR_EVER = string.rep('\0', EXPIRES_BYTES)
  local NEVER = 2 ^ 48 - 1 -- as late as six bytes can say

  local STATE_KEY, SIZES, EXPIRING
  local known -- by key: its entry, or `reads.ALIEN`; nothing if it isn't there
  local values_now -- by key that is changed: the value, or false if there is none any more
  local go_at -- of those values that go: when
  local sizes -- by plugin: bytes, keys

  -- Among the classes of what is to be removed: of all values that go.
  state.CLASS = 'state'

  function state.start()
    known = nil
  end

  local function begin_changes()
    if not known then
      STATE_KEY, SIZES, EXPIRING = PREFIX .. 'state:', PREFIX .. 'sizes', PREFIX .. 'expiring'
      known, values_now, go_at, sizes = {}, {}, {}, {}
    end
  end

  -- The places of an entry, which tells what is stored: the value, or false if its time is over; how many bytes it has, which take
  -- room until it is removed; and when it goes (0: never).
  local VALUE, LENGTH, GOES = 1, 2, 3

  local function expired_entry(length)
    return { false, length, now }
  end

  local function read_entry(stored)
    if stored == reads.ALIEN or #stored < EXPIRES_BYTES then
      return reads.ALIEN
    end
    local expires = unpack_bytes(EXPIRES, stored)
    local is_there = expires == 0 or expires > now
    return { is_there and sub(stored, EXPIRES_BYTES + 1), #stored - EXPIRES_BYTES, expires }
  end

  -- Those of these keys of which nothing is known yet, and whether all others can be read.
  local function not_known(names)
    if not next(known) then
      return names, true
    end
    local missing, are_whole = {}, true
    for n = 1, #names do
      local entry = known[names[n]]
      if not entry then
        missing[#missing + 1] = names[n]
      elseif entry == reads.ALIEN then
        are_whole = false
      end
    end
    return missing, are_whole
  end

  -- Reads what isn't known yet of these keys. Says whether all of them can be read.
  function state.fetch(names)
    begin_changes()
    local missing, are_whole = not_known(names)
    local values = reads.strings(missing)
    for n = 1, #missing do
      local stored = values[n]
      if stored then
        local entry = read_entry(stored)
        known[missing[n]] = entry
        are_whole = are_whole and entry ~= reads.ALIEN
      end
    end
    return are_whole
  end

  -- The value, or false if there is none; and when it goes. The key was fetched.
  function state.at(key)
    local value = values_now[key]
    if value ~= nil then
      return value, go_at[key] or 0
    end
    local entry = known[key]
    if entry and entry[VALUE] then
      return entry[VALUE], entry[GOES]
    end
    return false, 0
  end

  -- How many bytes of value take room at a key, or false.
  local function length_at(key)
    local value = values_now[key]
    if value == nil then
      local entry = known[key]
      return entry and entry[LENGTH]
    end
    return value and #value
  end

  function state.plugin_and_key(name)
    return string.match(name, '^([^:]*):(.*)$')
  end

  function state.plugin_of(key)
    return (state.plugin_and_key(sub(key, #STATE_KEY + 1)))
  end

  local function size_of(plugin)
    local size = sizes[plugin]
    if not size then
      local stored = call('HMGET', SIZES, plugin .. ':bytes', plugin .. ':keys')
      size = { tonumber(stored[1] or 0) or 0, tonumber(stored[2] or 0) or 0 }
      sizes[plugin] = size
      writes.knows(SIZES)
    end
    return size
  end

  -- `value` is false for one that goes away; `expires` is 0 for one that never does. Takes and returns how many bytes and keys the
  -- plugin has.
  local function put(bytes, count, key, own, value, expires)
    local before = length_at(key)
    if before then
      bytes, count = bytes - own - before, count - 1
    end
    values_now[key] = value
    if expires > 0 then
      go_at[key] = expires
    elseif go_at[key] then
      go_at[key] = nil
    end
    if value then
      return bytes + own + #value, count + 1
    end
    return bytes, count
  end

  local function take_away(key)
    local plugin, own = state.plugin_and_key(sub(key, #STATE_KEY + 1))
    local size = size_of(plugin)
    size[1], size[2] = put(size[1], size[2], key, #own, false, 0)
  end

  -- Takes away up to so many values whose time is over; says how many.
  function state.sweep(count)
    local names = call('ZRANGE', EXPIRING, '-inf', now, 'BYSCORE', 'LIMIT', 0, count)
    writes.knows(EXPIRING)
    for _, name in ipairs(names) do
      local key = STATE_KEY .. name
      local entry = known[key]
      if not entry then
        local length = reads.try('STRLEN', key)
        if length ~= reads.ALIEN and length >= EXPIRES_BYTES then
          entry = expired_entry(length - EXPIRES_BYTES)
          known[key] = entry
        else
          writes.value('ZREM', EXPIRING, name)
        end
      end
      -- One that this call has written anew is none of those any more.
      if entry and entry ~= reads.ALIEN and not state.at(key) then
        take_away(key)
      end
    end
    return #names
  end

  -- Takes away up to so many of all values whose time is over, and says when the next one goes.
  function state.remove(count)
    begin_changes()
    local swept = state.sweep(count)
    local next = call('ZRANGE', EXPIRING, swept, swept, 'WITHSCORES')
    if next[2] then
      writes.pair('ZADD', FINALS, next[2], state.CLASS)
    else
      writes.value('ZREM', FINALS, state.CLASS)
    end
    return swept
  end

  -- How many values there are.
  function state.count()
    local fields, count = call('HGETALL', PREFIX .. 'sizes'), 0
    for n = 1, #fields, 2 do
      if sub(fields[n], -5) == ':keys' then
        count = count + (tonumber(fields[n + 1]) or 0)
      end
    end
    return count
  end

  -- Takes away the values at these places in the keys; returns how many are left.
  function state.remove_values(first, last)
    begin_changes()
    local left = state.count()
    for n = first, last do
      local length = reads.try('STRLEN', keys[n])
      if length ~= reads.ALIEN and length >= EXPIRES_BYTES then
        known[keys[n]] = expired_entry(length - EXPIRES_BYTES)
        take_away(keys[n])
        left = left - 1
      end
    end
    return max(left, 0)
  end

  -- What there would be too much of after these writes, if anything: of each its key, what, value, and when that goes. `most`: how
  -- many bytes the keys and values have at most.
  -- What doesn't grow may always change; a value whose time is over is nothing that could be grown from.
  function state.excess_of(list, most, bytes_max, keys_max)
    local plugin = state.plugin_of(list[1])
    local base, size = #STATE_KEY + #plugin + 1, size_of(plugin)
    -- As if all of it came on top of what is there.
    if size[1] + most <= bytes_max and size[2] + #list / 4 <= keys_max then
      return nil
    end
    local function excess()
      local bytes, count = size[1], size[2]
      local bytes_before, count_before = bytes, count
      for n = 1, #list, 4 do
        local key, own = list[n], #list[n] - base
        local before = length_at(key)
        if before then
          bytes, count = bytes - own - before, count - 1
          if not state.at(key) then
            bytes_before, count_before = bytes_before - own - before, count_before - 1
          end
        end
        if list[n + 1] ~= DELETE then
          bytes, count = bytes + own + #list[n + 2], count + 1
        end
      end
      if bytes > bytes_max and bytes > bytes_before then
        return TOO_MANY_BYTES
      end
      return count > keys_max and count > count_before and TOO_MANY_KEYS or nil
    end
    local found = excess()
    -- It may be that what is in the way is only what should be gone.
    if found and state.sweep(STATE_SWEEP_MAX) > 0 then
      found = excess()
    end
    return found
  end

  -- Makes these writes, as `excess_of` has them.
  function state.apply(list)
    local plugin = state.plugin_of(list[1])
    local base, size = #STATE_KEY + #plugin + 1, size_of(plugin)
    local bytes, count = size[1], size[2]
    for n = 1, #list, 4 do
      local key, what, value, expires = list[n], list[n + 1], list[n + 2], list[n + 3]
      if what == DELETE then
        if length_at(key) then
          bytes, count = put(bytes, count, key, #key - base, false, 0)
        end
      else
        -- A sum, or another value in the place of one, goes when that would have gone.
        if what == SET then
          expires = expires and min(now + expires, NEVER) or 0
        end
        bytes, count = put(bytes, count, key, #key - base, value, expires)
      end
    end
    size[1], size[2] = bytes, count
  end

  local function finish_sizes()
    for plugin, size in pairs(sizes) do
      if size[2] > 0 then
        local values = writes.values('HSET', SIZES)
        local n = #values
        values[n + 1], values[n + 2] = plugin .. ':bytes', score(size[1])
        values[n + 3], values[n + 4] = plugin .. ':keys', score(size[2])
      else
        writes.pair('HDEL', SIZES, plugin .. ':bytes', plugin .. ':keys')
      end
    end
  end

  function state.finish()
    if not known then
      return
    end
    local earliest, gone, going = huge, nil, nil
    local strings, s = writes.own_strings(), 1
    for key, value in pairs(values_now) do
      local entry, goes = known[key], go_at[key]
      if value then
        strings[s + 1] = key
        strings[s + 2] = (goes and pack_bytes(EXPIRES, goes) or FOR_EVER) .. value
        s = s + 2
      elseif entry then
        writes.remove(key)
      end
      if goes then
        going = going or writes.list('ZADD', EXPIRING)
        local g = #going
        going[g + 1], going[g + 2] = score(goes), sub(key, #STATE_KEY + 1)
        earliest = min(earliest, goes)
      elseif entry and entry[GOES] > 0 then
        gone = gone or writes.list('ZREM', EXPIRING)
        gone[#gone + 1] = sub(key, #STATE_KEY + 1)
      end
    end
    if earliest < huge then
      local first = call('ZSCORE', FINALS, state.CLASS)
      if not first or earliest < tonumber(first) then
        writes.pair('ZADD', FINALS, score(earliest), state.CLASS)
      end
      writes.knows(FINALS)
    end
    finish_sizes()
  end
end
