-- A plugin's state: STRINGs at `state:<plugin>:<key>`, of six bytes that say when the value goes (0: never), and the value.
-- How much of it there is, is in a HASH at `sizes`: `<plugin>:bytes` (keys and values) and `<plugin>:keys`. Values that go
-- are also in a ZSET at `expiring`, by when; the call that finds their time over takes them away, and out of the sizes.
-- Redis's own expiry wouldn't tell, so the sizes would not be exact.
local STATE_KEY = PREFIX .. 'state:'
local EXPIRES = '>I6'
local EXPIRES_BYTES = 6

local known = {} -- by key: what was read of it, { value or false, when it goes }

-- The value, or false if there is none; and when it goes.
local function state_at(key)
  local entry = known[key]
  if not entry then
    local stored = call('GET', key)
    entry = { false, 0 }
    if stored and #stored >= EXPIRES_BYTES then
      local expires = unpack_bytes(EXPIRES, stored)
      if expires == 0 or expires > now then
        entry = { sub(stored, EXPIRES_BYTES + 1), expires }
      end
    end
    known[key] = entry
  end
  return entry[1], entry[2]
end
