-- Stores jobs.
--
-- keys[7..]  `job:<id>` of each job, then `ready:<queue>` of each queue that they name
-- asked      how many jobs
-- batch      the jobs, as in creation.lua
-- returns    nothing if all are stored, or else for each job: nothing, or the id of the job that holds its unique key

local function enqueue()
  writes.start()
  waiting.start()
  unique.start()
  creation.start(true)
  local holders = creation.create(batch, asked, FIXED_KEYS + 1)
  unique.finish()
  waiting.finish_and_wake()
  writes.commit()
  if not holders then
    return false
  end
  local replies = {}
  for n = 1, asked do
    replies[n] = holders[n] or ''
  end
  return replies
end
