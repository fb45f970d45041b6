-- Puts a dead letter back to ready.
--
-- keys[7..]  `job:<id>`, `run:<id>`
-- asked      nothing
-- returns    OK if it is ready now; nil if there is no such job; the state of one that isn't dead; or the id of the
--            job that holds its unique key

local function redrive()
  local id = id_of(keys[FIXED_KEYS + 1])
  local run, priority, queue = runs.of(id)
  if not run then
    return false
  end
  if run == reads.ALIEN then
    return unreadable(id)
  end
  if run.state ~= DEAD then
    local is_scheduled = run.state == READY and waiting.due_at(id, priority, queue)
    return is_scheduled and SCHEDULED or run.state
  end
  writes.start()
  waiting.start()
  unique.start()
  local unique_key = run.places[UNIQUE_KEY]
  if unique_key then
    local holder = unique.holder(unique_key)
    if holder then
      return holder
    end
    unique.claim(unique_key, id)
  end
  finals.leave(id, DEAD)
  run.state, run.attempts, run.expiries, run.finished_at = READY, 0, 0, 0
  run.places[WHY] = false
  runs.save(id, run)
  waiting.make_ready(id, priority, queue)
  unique.finish()
  waiting.finish_and_wake()
  writes.commit()
  return redis.status_reply('OK')
end
