-- The lines are a MessagePack array, or nothing.
local function append_log(id, lines, lines_kept)
  if lines == '' then
    return
  end
  local key = LOG_KEY .. id
  call_with_all('RPUSH', key, cmsgpack.unpack(lines))
  call('LTRIM', key, -lines_kept, -1)
end

-- A token holds while the job is leased under its number. A lease that has run out and wasn't taken back yet holds.
local function holds(run, lease)
  return run and run[STATE] == LEASED and run[LEASE] == lease
end

-- The runs of KEYS[7..6+count]. Whoever calls makes batches short enough for one call, and no job is twice in one.
local function runs_of_batch(count)
  local runs = call('MGET', unpack(KEYS, FIXED_KEYS + 1, FIXED_KEYS + count))
  for n = 1, count do
    runs[n] = read_run(runs[n]) or false
  end
  return runs
end
