-- Looks up a job's log lines.
--
-- KEYS[7]  `log:<id>`
-- asked    nothing
-- returns  the lines, oldest first

return call('LRANGE', KEYS[FIXED_KEYS + 1], 0, -1)
