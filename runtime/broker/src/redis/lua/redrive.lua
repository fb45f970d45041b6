-- Puts a dead letter back to ready.
--
-- KEYS[7..]  `job:<id>`, `run:<id>`
-- asked      nothing
-- returns    OK if it is ready now; nil if there is no such job; the state of one that isn't dead; or the id of the
--            job that holds its unique key

local id = id_of(KEYS[FIXED_KEYS + 1])
local run = run_of(id)
if not run then
  return false
end
local priority, queue = head_of(id)
if run[STATE] ~= DEAD then
  local is_scheduled = run[STATE] == READY and due_at(id, priority, queue)
  return is_scheduled and SCHEDULED or run[STATE]
end
local unique = in_tail(run, UNIQUE_KEY)
if unique then
  local holder = call('HGET', UNIQUE, unique)
  if holder then
    return holder
  end
  call('HSET', UNIQUE, unique, id)
end
for _, class in ipairs(classes_of(DEAD)) do
  if call('ZREM', CLASS_KEY .. class, id) == 1 then
    class_has_changed(class)
  end
end
run[STATE], run[ATTEMPTS], run[EXPIRIES], run[FINISHED_AT] = READY, 0, 0, 0
set_in_tail(run, WHY, false)
save_run(KEYS[FIXED_KEYS + 2], run)
flush_runs()
make_ready(id, priority, queue)
flush_waiting()
return redis.status_reply('OK')
