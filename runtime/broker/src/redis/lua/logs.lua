-- Log lines that runs have reported, in a LIST at `log:<id>`.

local logs = {}

-- Adds lines, which are a MessagePack array, and drops the oldest of more than are kept. Says whether it can be done.
function logs.add(id, lines, kept)
  local key = LOG_KEY .. id
  lines = unpack_values(lines)
  -- The first line that would be one too many, if there is one there.
  local surplus = reads.try('LRANGE', key, kept - #lines, kept - #lines)
  if surplus == reads.ALIEN then
    return false
  end
  local values = writes.list('RPUSH', key)
  for n = 1, #lines do
    values[n + 2] = lines[n]
  end
  if surplus[1] then
    local range = writes.list('LTRIM', key)
    range[3], range[4] = -kept, -1
  end
  writes.knows(key)
  return true
end
