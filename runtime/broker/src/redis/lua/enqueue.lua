-- Stores jobs.
--
-- KEYS[7..]  `job:<id>` of each job, then `ready:<queue>` of each queue that they name
-- asked      how many jobs
-- batch      the jobs, as in creation.lua
-- returns    nothing if all are stored, or else for each job: nothing, or the id of the job that holds its unique key

local replies = {}
local position = 1
for n = 1, asked do
  local holder
  position, holder = create(KEYS[FIXED_KEYS + n], batch, position)
  replies[n] = holder or ''
end
flush_waiting()
return replies
