-- Looks a job up.
--
-- keys[2..]  `job:<id>`, `run:<id>`
-- asked      nothing
-- returns    its record, as in records.lua

local function job()
  local id = id_of(keys[FIXED_KEYS + 1])
  local record = record_of(id)
  return record == reads.ALIEN and unreadable(id) or record
end
