-- Counts the jobs of each state.
--
-- asked    nothing
-- returns  the counts, in the order of `State::ALL`, and how many jobs can't be read

local counts

do
  local function size_of_all(names)
    local size = 0
    for _, name in ipairs(names) do
      size = size + call('ZCARD', name)
    end
    return size
  end

  local function count_final(is)
    local names = {}
    for n, class in ipairs(finals.classes_of(is)) do
      names[n] = CLASS_KEY .. class
    end
    return size_of_all(names)
  end

  function counts()
    local ready = {}
    for n, queue in ipairs(call('SMEMBERS', QUEUES)) do
      ready[n] = READY_KEY .. queue
    end
    return {
      call('ZCARD', BLOCKED_KEY),
      call('ZCARD', SCHEDULE),
      size_of_all(ready),
      call('ZCARD', LEASES),
      count_final(SUCCEEDED),
      count_final(DEAD),
      count_final(CANCELLED),
      parking.count(),
    }
  end
end
