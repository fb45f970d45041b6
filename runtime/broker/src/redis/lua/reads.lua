-- Reading many strings with a command or two.

local reads = {}

-- What stands for a key that holds something else than a string. It has no length.
reads.ALIEN = {}

do
  local function get_all(names)
    if #names <= SLICE then
      return #names > 0 and call('MGET', unpack(names)) or {}
    end
    local values = {}
    for first = 1, #names, SLICE do
      local last = min(first + SLICE - 1, #names)
      local some = call('MGET', unpack(names, first, last))
      for n = first, last do
        values[n] = some[n - first + 1]
      end
    end
    return values
  end

  -- How many of these keys there are.
  function reads.count(names)
    local count = 0
    for first = 1, #names, SLICE do
      count = count + call('EXISTS', unpack(names, first, min(first + SLICE - 1, #names)))
    end
    return count
  end

  -- The values of these keys: false for one that isn't there, or is of another type.
  reads.values = get_all

  -- The values of these keys: false for one that isn't there. A key of another type is absent to MGET, and would be
  -- overwritten by whoever believes that. `first`: the place of the first one of which that matters.
  function reads.strings(names, first)
    local values, absent, count = get_all(names), nil, 0
    first = first or 1
    for n = first, #names do
      if not values[n] then
        absent = absent or {}
        count = count + 1
        absent[count] = names[n]
      end
    end
    if absent and reads.count(absent) > 0 then
      for n = first, #names do
        if not values[n] and call('EXISTS', names[n]) == 1 then
          values[n] = reads.ALIEN
        end
      end
    end
    return values
  end
end

-- What a command answers; `reads.ALIEN` if its key is of another type. Any other error is one of the whole call.
function reads.try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      return reads.ALIEN
    end
    error(reply)
  end
  return reply
end

-- The first score of a ZSET; huge if it has none.
function reads.first_score(key)
  return tonumber(call('ZRANGE', key, '0', '0', 'WITHSCORES')[2]) or huge
end
