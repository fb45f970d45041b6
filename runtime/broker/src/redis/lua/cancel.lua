-- Cancels a job.
--
-- keys[7..]  `job:<id>`, `run:<id>`
-- asked      keep of a cancelled job
-- returns    OK if it is cancelled now; nil if there is no such job; else its state: that of a leased job, whose holder
--            is told, or of one that was final before

local function cancel()
  local id = id_of(keys[FIXED_KEYS + 1])
  local run, priority, queue = runs.of(id)
  if not run then
    return false
  end
  if run == reads.ALIEN then
    return unreadable(id)
  end
  if IS_FINAL[run.state] then
    return run.state
  end
  writes.start()
  finals.start()
  unique.start()
  local reply = LEASED
  if run.state == LEASED then
    run.cancel = 1
    writes.wake(id)
  else
    local member = waiting.member(id, priority, queue)
    if call('ZSCORE', SCHEDULE, member) then
      writes.value('ZREM', SCHEDULE, member)
    else
      waiting.leave(id, queue)
    end
    run.places[WHY] = WHY_CANCELLED
    finals.finish(id, run, CANCELLED, asked)
    reply = redis.status_reply('OK')
  end
  runs.save(id, run)
  unique.finish()
  writes.commit()
  return reply
end
