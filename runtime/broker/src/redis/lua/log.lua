-- Looks up a job's log lines.
--
-- keys[2]  `log:<id>`
-- asked    nothing
-- returns  the lines, oldest first

local function log()
  return call('LRANGE', keys[FIXED_KEYS + 1], 0, -1)
end
