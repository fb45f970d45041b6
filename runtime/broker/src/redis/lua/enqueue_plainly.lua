-- Most batches are all new, of one queue, to be run now, and without unique keys. They are stored here, by what the rest
-- of the script comes to for them. To make its functions, which each call does anew, would take longer than that.

-- Returns whether the batch is stored; nothing is written if it isn't such a one.
local function enqueue_plainly()
  local jobs, members = {}, {} -- by turns: key and bytes; score without its base, and id
  local position, queue_of_all = 1, nil
  for n = 1, asked do
    local key = KEYS[FIXED_KEYS + n]
    local delay, layout, priority, queue, unique, bytes, after = unpack_bytes(JOB, batch, position)
    queue_of_all = queue_of_all or queue
    if delay ~= 0 or unique ~= '' or queue ~= queue_of_all then
      return false
    end
    jobs[2 * n - 1], jobs[2 * n] = key, pack_bytes(JOB_START, layout, now) .. bytes
    members[2 * n - 1], members[2 * n] = (PRIORITY_MAX - priority) * PRIORITY_STEP + n, id_of(key)
    position = after
  end
  if #jobs > SLICE or call('MSETNX', unpack(jobs)) == 0 then
    return false
  end
  local base = call('INCRBY', SEQUENCE, asked) - asked
  for n = 1, #members, 2 do
    members[n] = score(members[n] + base)
  end
  local was_empty = call('SADD', QUEUES, queue_of_all) == 1
  call('ZADD', READY_KEY .. queue_of_all, unpack(members))
  if was_empty then
    wake()
  end
  return true
end

if enqueue_plainly() then
  return false
end
