-- Reads a value of a plugin's state.
--
-- KEYS[7]  `state:<plugin>:<key>`
-- asked    nothing
-- returns  the value, or nil

return state_at(KEYS[FIXED_KEYS + 1])
