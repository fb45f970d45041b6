-- Looks up which holds are in force.
--
-- asked    nothing
-- returns  for each: scope, when it ends or nothing, and what is noted of it, as in holds.lua

local function hold_list()
  return holds.list()
end
