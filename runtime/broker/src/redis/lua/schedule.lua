-- The schedule. Its members carry what it takes to make a job ready, so that nothing else has to be read for it. They
-- begin with the id, so jobs that are due at the same time come in order of id.

local function scheduled(id, priority, queue)
  return id .. char(priority) .. queue
end

-- Jobs to schedule are gathered as times and members, and `flush_schedule` adds them together.
local gathered_schedule = {}
local earliest_due = math.huge

local function make_scheduled(id, priority, queue, due)
  local n = #gathered_schedule
  gathered_schedule[n + 1] = score(due)
  gathered_schedule[n + 2] = scheduled(id, priority, queue)
  earliest_due = math.min(earliest_due, due)
end

-- Returns whether the earliest due time is now earlier than before.
local function flush_schedule()
  if #gathered_schedule == 0 then
    return false
  end
  local head = call('ZRANGE', SCHEDULE, 0, 0, 'WITHSCORES')
  call_with_all('ZADD', SCHEDULE, gathered_schedule)
  return not head[2] or earliest_due < tonumber(head[2])
end

local function make_waiting(id, priority, queue, delay)
  if delay == 0 then
    make_ready(id, priority, queue)
  else
    make_scheduled(id, priority, queue, now + delay)
  end
end

-- Puts what was gathered where it belongs, and tells the listeners if that is news to them.
local function flush_waiting()
  local were_empty = flush_ready()
  local is_earlier = flush_schedule()
  if #were_empty > 0 or is_earlier then
    wake()
  end
end

-- When a waiting job is due; false if it is ready.
local function due_at(id, priority, queue)
  return call('ZSCORE', SCHEDULE, scheduled(id, priority, queue))
end
