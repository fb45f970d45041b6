-- Changes of state, with the sizes that go with them. The sizes are read once a call and written once, by `flush_sizes`.
local SIZES, EXPIRING = PREFIX .. 'sizes', PREFIX .. 'expiring'
local STATE_CLASS = 'state' -- of all values that go, among the classes of what is to be removed
local NEVER = 2 ^ 48 - 1 -- as late as six bytes can say

local sizes = {} -- by plugin: bytes, keys

local function plugin_and_key(name)
  return string.match(name, '^([^:]*):(.*)$')
end

local function read_size(plugin)
  if not sizes[plugin] then
    local size = call('HMGET', SIZES, plugin .. ':bytes', plugin .. ':keys')
    sizes[plugin] = { tonumber(size[1] or 0), tonumber(size[2] or 0) }
  end
  return sizes[plugin]
end

local function resize(plugin, bytes, keys)
  local size = read_size(plugin)
  size[1], size[2] = size[1] + bytes, size[2] + keys
end

local function flush_sizes()
  for plugin, size in pairs(sizes) do
    if size[2] > 0 then
      call('HSET', SIZES, plugin .. ':bytes', score(size[1]), plugin .. ':keys', score(size[2]))
    else
      call('HDEL', SIZES, plugin .. ':bytes', plugin .. ':keys')
    end
  end
end

-- Takes away up to so many values whose time is over; says how many.
local function sweep_state(count)
  local names = call('ZRANGE', EXPIRING, '-inf', now, 'BYSCORE', 'LIMIT', 0, count)
  for _, name in ipairs(names) do
    local stored = call('STRLEN', STATE_KEY .. name)
    if stored >= EXPIRES_BYTES then
      local plugin, key = plugin_and_key(name)
      resize(plugin, -(#key + stored - EXPIRES_BYTES), -1)
      call('DEL', STATE_KEY .. name)
    end
  end
  if #names > 0 then
    call('ZREMRANGEBYRANK', EXPIRING, 0, #names - 1)
  end
  return #names
end

-- After values have gone: when the next one goes.
local function expiring_has_changed()
  local first = call('ZRANGE', EXPIRING, 0, 0, 'WITHSCORES')
  if first[2] then
    call('ZADD', FINALS, first[2], STATE_CLASS)
  else
    call('ZREM', FINALS, STATE_CLASS)
  end
end

local function sweep_all_state()
  if sweep_state(SLICE) > 0 then
    while sweep_state(SLICE) > 0 do
    end
    expiring_has_changed()
  end
end

-- `value` is false for one that goes away; `expires` is 0 for one that never does.
local function put_state(key, value, expires)
  local before, expired = state_at(key)
  local name = sub(key, #STATE_KEY + 1)
  local plugin, own_key = plugin_and_key(name)
  if before then
    resize(plugin, -(#own_key + #before), -1)
  end
  if value then
    resize(plugin, #own_key + #value, 1)
    call('SET', key, pack_bytes(EXPIRES, expires) .. value)
  elseif before then
    call('DEL', key)
  end
  if value and expires > 0 then
    call('ZADD', EXPIRING, score(expires), name)
    call('ZADD', FINALS, 'LT', score(expires), STATE_CLASS)
  elseif expired > 0 then
    call('ZREM', EXPIRING, name)
  end
  known[key] = nil
end
