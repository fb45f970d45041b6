-- A plugin's state: STRINGs at `state:<plugin>:<key>`, which Redis drops when their time is over.
--
-- Redis goes by its own clock in that. So while a test moves ours by hand, the times are moved out of its reach, and
-- compared here.
local OUT_OF_REACH = 2 ^ 45

local function state_at(key)
  local value = call('GET', key)
  if value and clock_is_moved_by_hand then
    local expires = call('PEXPIRETIME', key)
    if expires > 0 and expires <= OUT_OF_REACH + now then
      return false
    end
  end
  return value
end

local function set_state(key, value, ttl)
  if not ttl then
    call('SET', key, value)
  elseif clock_is_moved_by_hand then
    call('SET', key, value, 'PXAT', OUT_OF_REACH + now + ttl)
  else
    call('SET', key, value, 'PX', ttl)
  end
end
