-- Prolongs leases, and keeps what their runs have reported.
--
-- KEYS[7..]  `run:<id>` of each lease, then `log:<id>` of each with lines
-- asked      { how many leases, ttl, log lines kept }
-- batch      of each lease: its number, progress or nothing, log lines or nothing
-- returns    for each lease: LOST, HELD or CANCEL_REQUESTED

local RENEWAL = '>I8I4c0I4c0'
local LOST, HELD, CANCEL_REQUESTED = 0, 1, 2

local count, ttl, lines_kept = unpack(asked)
local expires = score(now + ttl)
local runs = runs_of_batch(count)
local expiries, replies = {}, {}

local function renew(key, run, progress, lines)
  local id = id_of(key)
  local n = #expiries
  expiries[n + 1], expiries[n + 2] = expires, id
  append_log(id, lines, lines_kept)
  if progress ~= '' then
    set_in_tail(run, PROGRESS, progress)
    save_run(key, run)
  end
  return run[CANCEL] == 1 and CANCEL_REQUESTED or HELD
end

local position = 1
for n = 1, count do
  local lease, progress, lines
  lease, progress, lines, position = unpack_bytes(RENEWAL, batch, position)
  local run = runs[n]
  replies[n] = holds(run, lease) and renew(KEYS[FIXED_KEYS + n], run, progress, lines) or LOST
end

flush_runs()
call_with_all('ZADD', LEASES, expiries)
return replies
