-- Prolongs leases, and keeps what their runs have reported.
--
-- KEYS[7..]  `run:<id>` of each lease, then `log:<id>` of each with lines
-- asked      { ttl, log lines kept, how many leases, and of each by turns: lease, progress or false, log lines or
--              false }
-- returns    for each lease: LOST, HELD or CANCEL_REQUESTED

local LOST, HELD, CANCEL_REQUESTED = 0, 1, 2

local ttl, lines_kept, count = unpack(asked, 1, 3)
local expires = score(now + ttl)
local runs = runs_of_batch(count)
local expiries, replies = {}, {}

for n = 1, count do
  local lease, progress, lines = unpack(asked, 3 * n + 1, 3 * n + 3)
  local run = runs[n]
  if holds(run, lease) then
    local key = KEYS[FIXED_KEYS + n]
    local id = id_of(key)
    expiries[#expiries + 1] = expires
    expiries[#expiries + 1] = id
    keep_report(id, run, progress, lines, lines_kept)
    if progress then
      save_run(key, run)
    end
    replies[n] = run[CANCEL] and CANCEL_REQUESTED or HELD
  else
    replies[n] = LOST
  end
end

flush_runs()
call_with_all('ZADD', LEASES, expiries)
return replies
