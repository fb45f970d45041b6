-- Taking jobs out of the queues of ready ones, whose order is in order.lua.

local function queue_is_empty(queue)
  if call('SREM', QUEUES, queue) == 1 and call('EXISTS', QUEUES) == 0 then
    call('DEL', SEQUENCE)
  end
end

-- The ids of the first jobs of a queue, and whether there are no others.
local function first_ready(queue, count)
  local ids = call('ZRANGE', READY_KEY .. queue, '0', score(count))
  local is_all = #ids <= count
  ids[count + 1] = nil
  return ids, is_all
end

-- Takes so many of them. ZPOPMIN would do the same, and make text of their scores, which nobody asks for.
local function take_ready(queue, count, is_all)
  if count > 0 then
    call('ZREMRANGEBYRANK', READY_KEY .. queue, '0', score(count - 1))
    if is_all then
      queue_is_empty(queue)
    end
  end
end

local function leave_ready(id, queue)
  local key = READY_KEY .. queue
  call('ZREM', key, id)
  if call('EXISTS', key) == 0 then
    queue_is_empty(queue)
  end
end
