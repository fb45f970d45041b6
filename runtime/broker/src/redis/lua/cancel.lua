-- Cancels a job.
--
-- KEYS[7..]  `job:<id>`, `run:<id>`
-- asked      keep of a cancelled job
-- returns    OK if it is cancelled now; nil if there is no such job; else its state: that of a leased job, whose holder
--            is told, or of one that was final before

local id = id_of(KEYS[FIXED_KEYS + 1])
local run = run_of(id)
if not run then
  return false
end
if run[STATE] > LEASED then
  return run[STATE]
end
if run[STATE] == LEASED then
  run[CANCEL] = 1
  wake(id)
else
  local priority, queue = head_of(id)
  if call('ZREM', SCHEDULE, scheduled(id, priority, queue)) == 0 then
    leave_ready(id, queue)
  end
  make_cancelled(id, run, asked)
end
save_run(KEYS[FIXED_KEYS + 2], run)
flush_runs()
flush_finals()
return run[STATE] == LEASED and LEASED or redis.status_reply('OK')
