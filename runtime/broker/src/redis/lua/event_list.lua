-- Lists events behind one that was read before.
--
-- asked    { the number of that one, how many at most }
-- returns  nothing if no events are recorded, or else the numbers of the first and the last one that are kept, and the events, from the
--            first one on if the one that was read isn't among them

local function event_list()
  events.start()
  local first, last = events.span()
  if not first then
    return false
  end
  local after, most = asked[1], asked[2]
  local is_known = after >= first - 1 and after <= last
  return { first, last, events.list(is_known and after - (first - 1) or 0, most) }
end
