-- Has events recorded for some time from now on.
--
-- asked    { for how many milliseconds, and how many are kept at most }
-- returns  the number of the last event so far

local function record_events()
  writes.start()
  tally.start()
  events.start()
  local last = events.want(asked[1], asked[2])
  tally.finish()
  writes.commit()
  return last
end
