-- Says what the user may not call.
--
-- asked    { a command and its arguments }, of each call
-- returns  the places of those that are refused, from 0

local function permissions()
  local refused = {}
  for n, words in ipairs(asked) do
    if not redis.acl_check_cmd(unpack(words)) then
      refused[#refused + 1] = n - 1
    end
  end
  return refused
end
