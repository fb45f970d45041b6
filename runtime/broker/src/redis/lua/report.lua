-- What a run has reported since: its progress, and lines for its log.
local function keep_report(id, run, progress, lines, lines_kept)
  if progress then
    run[PROGRESS] = progress
  end
  if lines then
    local key = log_key(id)
    call_with_all('RPUSH', key, lines)
    call('LTRIM', key, -lines_kept, -1)
  end
end

-- A token holds while the job is leased under its number. A lease that has run out and wasn't taken back yet holds.
local function holds(run, lease)
  return run and run[STATE] == LEASED and run[LEASE] == lease
end

-- The runs of KEYS[7..6+count], each once: a job that is twice in a batch has one run.
local function runs_of_batch(count)
  local keys, seen = {}, {}
  for n = 1, count do
    keys[n] = KEYS[FIXED_KEYS + n]
  end
  local runs = get_all(keys)
  for n, packed in ipairs(runs) do
    local key = keys[n]
    if seen[key] == nil then
      seen[key] = read_run(packed) or false
    end
    runs[n] = seen[key]
  end
  return runs
end
