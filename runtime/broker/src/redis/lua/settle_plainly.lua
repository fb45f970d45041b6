-- Most batches hold nothing but successes without effects or log lines, of jobs that had their first lease. They are
-- recorded here, by what the rest of the script comes to for them. To make its functions, which each call does anew, would
-- take several times as long.

-- Returns what the script does; nothing, and nothing is written, if there is anything else in the batch.
local function settle_plainly()
  local stored = call('MGET', unpack(KEYS, FIXED_KEYS + 1, FIXED_KEYS + count))
  local runs, ended, finals, replies = {}, {}, {}, {}
  local finished_at, keep_of_all = score(now), nil
  local position = 1
  for n = 1, count do
    local run = stored[n]
    local lease, what, _, keep, tail, lines, effects, _, _, after = unpack_bytes(SETTLEMENT, batch, position)
    keep_of_all = keep_of_all or keep
    if not run or #run ~= PLAIN_RUN_BYTES or what ~= SUCCEED or lines ~= '' or effects ~= '' or keep ~= keep_of_all then
      return nil
    end
    local state, _, attempts, expiries, held, leased_at = unpack_bytes(RUN_HEAD, run)
    if state ~= LEASED or held ~= lease or sub(run, RUN_HEAD_BYTES + 1) ~= EMPTY_TAIL then
      return nil
    end
    local key = KEYS[FIXED_KEYS + n]
    local id = id_of(key)
    runs[2 * n - 1] = key
    runs[2 * n] = pack_bytes(RUN_HEAD, SUCCEEDED, 0, attempts + 1, expiries, held, leased_at, now) .. tail
    finals[2 * n - 1], finals[2 * n] = finished_at, id
    ended[n], replies[n] = id, APPLIED
    position = after
  end
  local class = CLASS_OF[SUCCEEDED] .. score(keep_of_all)
  call('MSET', unpack(runs))
  call('ZREM', LEASES, unpack(ended))
  call('ZADD', CLASS_KEY .. class, unpack(finals))
  call('ZADD', FINALS, 'NX', score(now + keep_of_all), class)
  record_spent(totals, days_kept)
  return replies
end

local settled = settle_plainly()
if settled then
  return settled
end
