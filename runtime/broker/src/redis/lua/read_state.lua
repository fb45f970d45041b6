-- Reads a value of a plugin's state.
--
-- keys[2]  `state:<plugin>:<key>`
-- asked    nothing
-- returns  the value, or nil

local function read_state()
  local key = keys[FIXED_KEYS + 1]
  state.start()
  if not state.fetch({ key }) then
    return redis.error_reply('UNREADABLE ' .. key)
  end
  return (state.at(key))
end
