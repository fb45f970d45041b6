-- Prolongs leases, and keeps what their runs have reported.
--
-- keys[2..]  `run:<id>` of each lease
-- asked      { how many leases, ttl, log lines kept }
-- batch      of each lease: its number, progress or nothing, log lines or nothing
-- returns    for each lease: LOST, HELD, CANCEL_REQUESTED or UNREADABLE

local renew

do
  local RENEWAL = '>I8I4c0I4c0'

  -- The run of a lease with this progress; nothing if it can't be read.
  local function with_progress(packed, progress)
    local run = runs.read(packed)
    if not run then
      return nil
    end
    run.places[PROGRESS] = progress
    return runs.pack(run)
  end

  function renew()
    local count, ttl, lines_kept = unpack(asked)
    writes.start()
    local stored = reads.strings({ unpack(keys, FIXED_KEYS + 1, FIXED_KEYS + count) })
    local expires, expiries, replies = score(now + ttl), writes.list('ZADD', LEASES), {}
    local position = 1
    for n = 1, count do
      local number, progress, lines, after = unpack_bytes(RENEWAL, batch, position)
      position = after
      local key, packed = keys[FIXED_KEYS + n], stored[n]
      local is, cancel, _, _, held = runs.head(packed)
      local reply = packed and not is and UNREADABLE or LOST
      if is == LEASED and held == number then
        reply = UNREADABLE
        local run = progress ~= '' and with_progress(packed, progress)
        if run ~= nil and (lines == '' or logs.add(id_of(key), lines, lines_kept)) then
          if run then
            writes.string(key, run)
          end
          local e = #expiries
          expiries[e + 1], expiries[e + 2] = expires, id_of(key)
          reply = cancel == 1 and CANCEL_REQUESTED or HELD
        end
      end
      replies[n] = reply
    end
    writes.commit()
    return replies
  end
end
