-- Stores jobs.
--
-- KEYS[7..]  `job:<id>` of each job, then `ready:<queue>` of each queue that they name
-- asked      the jobs, as in create.lua
-- returns    for each job: nothing if it is stored, else the id of the job that holds its unique key

local replies = {}
for first = 1, #asked, JOB_PLACES do
  replies[#replies + 1] = create(asked, first) or ''
end
flush_waiting()
return replies
