-- Looks up which holds are in force.
--
-- asked    nothing
-- returns  { the time, of each hold: scope, when it ends or nothing, and what is noted of it, as in holds.lua; of each breaker
--            that holds jobs back its name and the array, by turns }

local function hold_list()
  return { now, holds.list(), holds.gates() }
end
