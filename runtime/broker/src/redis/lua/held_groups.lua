-- Lists the groups that are held by dead jobs, those held for the longest time first.
--
-- asked    nothing
-- returns  by turns: queue, key of the group, id of the dead job, when it died

local function held_groups()
  groups.start()
  local members = groups.held(HELD_GROUPS)
  local list = {}
  for n = 1, #members, 2 do
    local queue, key, id = string.match(members[n], '^(%Z*)%z(%Z*)%z(%w+)$')
    local l = #list
    list[l + 1], list[l + 2], list[l + 3], list[l + 4] = queue, key, id, tonumber(members[n + 1])
  end
  return list
end
