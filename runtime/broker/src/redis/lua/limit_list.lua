-- Looks up the use of limits.
--
-- asked    nothing
-- returns  { the time, names of limits and how many jobs are leased under each, by turns, names of rate limits and when all their
--          tokens are there, by turns, of each limit of a single group that hasn't ended: queue, key of the group, its turns, whether it
--          is on, when it ends or false, when it was set, who has set it or false, its note or false, how many turns are taken }

local function limit_list()
  tally.start()
  groups.start()
  return { now, places.all(), rates.all(), groups.list_limits() }
end
