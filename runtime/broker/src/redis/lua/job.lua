-- Looks a job up.
--
-- KEYS[7..]  `job:<id>`, `run:<id>`
-- asked      nothing
-- returns    its record, as in record.lua

return record_of(id_of(KEYS[FIXED_KEYS + 1]))
