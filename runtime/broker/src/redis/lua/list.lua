-- Lists jobs of one state.
--
-- asked    { state, how many to pass over, how many at most }
-- returns  their records, as in records.lua; those that can't be read are left out
--
-- Ready and final jobs are in one ZSET a queue or class, whose orders are merged. A page that lies deep costs no more
-- than an early one, since its first score is searched for by counting, which Redis does in the logarithm of the size.
local list

do
  local wanted, offset, limit, is_final

  local function sources()
    local names = {}
    if wanted == SCHEDULED then
      names[1] = SCHEDULE
    elseif wanted == LEASED then
      names[1] = LEASES
    elseif wanted == READY then
      for n, queue in ipairs(call('SMEMBERS', QUEUES)) do
        names[n] = READY_KEY .. queue
      end
    else
      for n, class in ipairs(finals.classes_of(wanted)) do
        names[n] = CLASS_KEY .. class
      end
    end
    return names
  end

  -- How many members come before all those with this score.
  local function count_before(names, at)
    local count = 0
    for _, key in ipairs(names) do
      if is_final then
        count = count + call('ZCOUNT', key, '(' .. score(at), '+inf')
      else
        count = count + call('ZCOUNT', key, '-inf', '(' .. score(at))
      end
    end
    return count
  end

  -- The last score, in the order of the list, that has no more than `offset` members before it.
  local function score_at(names)
    local low, high = 0, 2 ^ 53
    while low < high do
      -- Their sum might not be exact.
      local middle = low + floor((high - low) / 2)
      if is_final then
        if count_before(names, middle) <= offset then
          high = middle
        else
          low = middle + 1
        end
      elseif count_before(names, middle + 1) <= offset then
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

  local function page_of_many(names)
    local at = score_at(names)
    local passed_over = offset - count_before(names, at)
    local found = {}
    for _, key in ipairs(names) do
      local members = members_from(key, at, passed_over + limit)
      for n = 1, #members, 2 do
        found[#found + 1] = { id = members[n], score = tonumber(members[n + 1]) }
      end
    end
    table.sort(found, comes_first)
    local ids = {}
    for n = passed_over + 1, min(passed_over + limit, #found) do
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

  function list()
    wanted, offset, limit = unpack(asked)
    is_final = IS_FINAL[wanted]
    local names = sources()
    local ids = #names == 1 and page_of_one(names[1]) or page_of_many(names)
    local records = {}
    for _, id in ipairs(ids) do
      local record = record_of(id)
      if record and record ~= reads.ALIEN then
        records[#records + 1] = record
      end
    end
    return records
  end
end
