-- Looks up which lanes there are.
--
-- asked    nothing
-- returns  { how often one has come or gone, names: queue and kind }

local function lane_list()
  lanes.start()
  tally.start()
  local names = {}
  local all = lanes.all()
  for n = 1, #all, 2 do
    names[#names + 1] = all[n]
  end
  return { tally.lanes(), names }
end
