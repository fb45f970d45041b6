-- Jobs that become ready are gathered, and `flush_ready` puts them in their queues together.

local gathered_queues = {} -- in order of first use
local gathered = {} -- by queue: score without its base, id, and so on by turns
local gathered_count = 0

local function make_ready(id, priority, queue)
  local members = gathered[queue]
  if not members then
    members = {}
    gathered[queue] = members
    gathered_queues[#gathered_queues + 1] = queue
  end
  gathered_count = gathered_count + 1
  local n = #members
  members[n + 1] = (PRIORITY_MAX - priority) * PRIORITY_STEP + gathered_count
  members[n + 2] = id
end

-- Returns the queues that were empty before.
local function flush_ready()
  local were_empty = {}
  if gathered_count == 0 then
    return were_empty
  end
  local base = call('INCRBY', SEQUENCE, gathered_count) - gathered_count
  for _, queue in ipairs(gathered_queues) do
    local members = gathered[queue]
    for n = 1, #members, 2 do
      members[n] = score(members[n] + base)
    end
    if call('SADD', QUEUES, queue) == 1 then
      were_empty[#were_empty + 1] = queue
    end
    call_with_all('ZADD', READY_KEY .. queue, members)
  end
  return were_empty
end
