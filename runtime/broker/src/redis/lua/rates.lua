-- Rate limits: so many within a time, by the rules of `core/src/rate.rs`. The HASH `rates` has of each by its name when all its
-- tokens are there again, in microseconds since 1970, which Lua's numbers hold exactly.

local rates = {}

do
  local known -- by name: { microseconds between two tokens, how many at once, full at, how many are left, how many are taken }

  function rates.start()
    known = nil
  end

  local function rates_key()
    return PREFIX .. 'rates'
  end

  -- How long it takes until all tokens of a limit are there, no longer than from none.
  local function ahead_of(rate)
    return min(max(rate.full_at - now * 1000, 0), rate.interval * rate.burst)
  end

  -- Takes in that a limit is asked under. Of one that is named twice, the latter counts.
  function rates.know(name, interval, burst)
    known = known or {}
    local before = known[name]
    local full_at = before and before.full_at or tonumber(call('HGET', rates_key(), name) or 0)
    local rate = { interval = interval, burst = burst, full_at = full_at, taken = 0 }
    rate.left = floor((interval * burst - ahead_of(rate)) / interval)
    known[name] = rate
  end

  -- Sets a token of a limit aside; says whether there was one.
  function rates.take(name)
    local rate = known[name]
    if rate.left <= 0 then
      return false
    end
    rate.left = rate.left - 1
    return true
  end

  -- Says that a token that was set aside is used.
  function rates.count(name)
    known[name].taken = known[name].taken + 1
  end

  -- Of each limit the name, and when all its tokens are there again, by turns. A producer's user may not look.
  function rates.all()
    local all = redis.acl_check_cmd('HGETALL', rates_key()) and call('HGETALL', rates_key()) or {}
    for n = 2, #all, 2 do
      all[n] = tonumber(all[n])
    end
    return all
  end

  -- Writes down what is used. Returns the microseconds until there are tokens again of the first limit that has none left, or false.
  function rates.finish()
    local first = false
    for name, rate in pairs(known or {}) do
      local span = rate.interval * rate.burst
      if rate.taken > 0 then
        rate.full_at = now * 1000 + ahead_of(rate) + rate.interval * rate.taken
        writes.pair('HSET', rates_key(), name, score(rate.full_at))
      elseif rate.full_at > now * 1000 + span then
        -- A slower rate has left it so.
        rate.full_at = now * 1000 + span
        writes.pair('HSET', rates_key(), name, score(rate.full_at))
      end
      local ahead = ahead_of(rate)
      if span - ahead < rate.interval then
        local wait = ahead - (span - rate.interval * math.ceil(rate.burst / 2))
        first = first and min(first, wait) or wait
      end
    end
    return first
  end
end
