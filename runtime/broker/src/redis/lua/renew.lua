-- Prolongs leases, and keeps what their runs have reported.
--
-- KEYS[7..]  `run:<id>` of each lease, then `log:<id>` of each with lines
-- asked      { ttl, log lines kept, { { lease, progress or false, log lines }, one for each lease } }
-- returns    for each lease: LOST, HELD or CANCEL_REQUESTED

local LOST, HELD, CANCEL_REQUESTED = 0, 1, 2

local ttl, lines_kept, leases = unpack(asked)
local runs = runs_of_batch(#leases)
local expiries, replies = {}, {}

for n, lease in ipairs(leases) do
  local number, progress, lines = unpack(lease)
  local run = runs[n]
  if holds(run, number) then
    local id = id_of(KEYS[FIXED_KEYS + n])
    expiries[#expiries + 1] = now + ttl
    expiries[#expiries + 1] = id
    keep_report(id, run, progress, lines, lines_kept)
    if progress then
      save_run(id, run)
    end
    replies[n] = run[CANCEL] and CANCEL_REQUESTED or HELD
  else
    replies[n] = LOST
  end
end

flush_runs()
call_with_all('ZADD', LEASES, expiries)
return replies
