-- Lists jobs of one state.
--
-- asked    { state, how many to pass over, how many at most }
-- returns  their records, as in record.lua
--
-- Ready and final jobs are in one ZSET a queue or class, whose orders are merged. A page that lies deep costs no more
-- than an early one, since its first score is searched for by counting, which Redis does in the logarithm of the size.

local state, offset, limit = unpack(asked)
local is_final = state >= SUCCEEDED

local function sources()
  local keys = {}
  if state == SCHEDULED then
    keys[1] = SCHEDULE
  elseif state == LEASED then
    keys[1] = LEASES
  elseif state == READY then
    for n, queue in ipairs(call('SMEMBERS', QUEUES)) do
      keys[n] = READY_KEY .. queue
    end
  else
    for n, class in ipairs(classes_of(state)) do
      keys[n] = CLASS_KEY .. class
    end
  end
  return keys
end

-- How many members come before all those with this score.
local function count_before(keys, at)
  local count = 0
  for _, key in ipairs(keys) do
    if is_final then
      count = count + call('ZCOUNT', key, '(' .. score(at), '+inf')
    else
      count = count + call('ZCOUNT', key, '-inf', '(' .. score(at))
    end
  end
  return count
end

-- The last score, in the order of the list, that has no more than `offset` members before it.
local function score_at(keys)
  local low, high = 0, 2 ^ 53
  while low < high do
    -- Their sum might not be exact.
    local middle = low + math.floor((high - low) / 2)
    if is_final then
      if count_before(keys, middle) <= offset then
        high = middle
      else
        low = middle + 1
      end
    elseif count_before(keys, middle + 1) <= offset then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Byte by byte, as Redis orders members; Lua's own comparison goes by the locale.
local function is_less(a, b)
  for n = 1, #a do
    local x, y = byte(a, n), byte(b, n)
    if x ~= y then
      return x < y
    end
  end
  return false
end

local function comes_first(a, b)
  if is_final then
    a, b = b, a
  end
  if a.score ~= b.score then
    return a.score < b.score
  end
  return is_less(a.id, b.id)
end

-- Members of one key, from a score on in the order of the list.
local function members_from(key, at, count)
  if is_final then
    return call('ZRANGE', key, at, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, count, 'WITHSCORES')
  end
  return call('ZRANGE', key, at, '+inf', 'BYSCORE', 'LIMIT', 0, count, 'WITHSCORES')
end

local function page_of_many(keys)
  local at = score_at(keys)
  local passed_over = offset - count_before(keys, at)
  local found = {}
  for _, key in ipairs(keys) do
    local members = members_from(key, at, passed_over + limit)
    for n = 1, #members, 2 do
      found[#found + 1] = { id = members[n], score = tonumber(members[n + 1]) }
    end
  end
  table.sort(found, comes_first)
  local ids = {}
  for n = passed_over + 1, math.min(passed_over + limit, #found) do
    ids[#ids + 1] = found[n].id
  end
  return ids
end

local function page_of_one(key)
  local ids
  if is_final then
    ids = call('ZRANGE', key, offset, offset + limit - 1, 'REV')
  else
    ids = call('ZRANGE', key, offset, offset + limit - 1)
  end
  for n, member in ipairs(ids) do
    ids[n] = sub(member, 1, 26)
  end
  return ids
end

local keys = sources()
local ids = #keys == 1 and page_of_one(keys[1]) or page_of_many(keys)
local records = {}
for n, id in ipairs(ids) do
  records[n] = record_of(id)
end
return records
