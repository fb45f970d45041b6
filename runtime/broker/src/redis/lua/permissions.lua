-- Says what the user may not call.
--
-- asked    { a command and its arguments }, of each command that functions call
-- returns  the commands that are refused

local function permissions()
  local refused = {}
  for _, words in ipairs(asked) do
    if not redis.acl_check_cmd(unpack(words)) then
      refused[#refused + 1] = words[1]
    end
  end
  return refused
end
