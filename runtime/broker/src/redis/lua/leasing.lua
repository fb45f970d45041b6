-- Makes ready what is due, takes back what has expired, removes what was kept long enough, and hands out leases.
--
-- asked      { ttl, most expiries, why a job with more is buried, most jobs in each of the three sweeps, keep of the
--              dead, keep of the cancelled, { queue, how many at most, and so on by turns }, the tenant's fuel quota:
--              false, or { for the minute, for the day, as bytes } past which nothing is handed out, each false if there is none }
-- KEYS[7..]  `ready:<queue>` of each queue that is asked for
-- returns    { when to ask again in milliseconds or nil, ids of the buried, ids of jobs that can't be read and
--              were passed over, leases: of each its id, number, attempts, and the bytes of the job; nothing if there is no
--              quota, or else { now, fuel spent this minute, fuel spent today } }

local ttl, expiries_max, why_buried, sweep_max, keep_dead, keep_cancelled, queues, quota = unpack(asked)
local expires = score(now + ttl)

local LEASE_HEAD = '>I6I4' -- between the id and the bytes of the job in what is returned: number and attempts

-- The run and the lease of a job that was never leased before and has no unique key, as most: they all get the same.
local first_run = pack_bytes(RUN_HEAD, LEASED, 0, 0, 0, 1, now, 0) .. EMPTY_TAIL
local first_lease = pack_bytes(LEASE_HEAD, 1, 0)

local function is_plain(job)
  local layout, high, low = byte(job, 1), byte(job, 9, 10)
  return (layout == ANY_REVISION or layout == PINNED) and high == 0 and low == 0
end

-- When to ask again, if the first job is due and the first lease runs out at these times; math.huge if there is none.
local function ask_again(due, expiry)
  local next = math.min(due, expiry)
  return next < math.huge and math.min(math.max(next - now, 0), 2 ^ 53) or false
end

local function first_score(key)
  return tonumber(call('ZRANGE', key, '0', '0', 'WITHSCORES')[2]) or math.huge
end
