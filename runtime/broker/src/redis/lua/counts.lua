-- Counts the jobs of each state.
--
-- asked    nothing
-- returns  the counts, in the order of `State::ALL`

local function size_of_all(keys)
  local size = 0
  for _, key in ipairs(keys) do
    size = size + call('ZCARD', key)
  end
  return size
end

local function count_final(state)
  local keys = {}
  for n, class in ipairs(classes_of(state)) do
    keys[n] = CLASS_KEY .. class
  end
  return size_of_all(keys)
end

local ready = {}
for n, queue in ipairs(call('SMEMBERS', QUEUES)) do
  ready[n] = READY_KEY .. queue
end
return {
  call('ZCARD', SCHEDULE),
  size_of_all(ready),
  call('ZCARD', LEASES),
  count_final(SUCCEEDED),
  count_final(DEAD),
  count_final(CANCELLED),
}
