-- Takes in what a daemon says of a canary's trial, and says how the trial stands: see `core/src/trial.rs`.
--
-- A trial is a HASH: when it `began`, when a daemon `reported` last, its `decision` once there is one, and what each daemon
-- has counted, by the daemon's id. What is counted is summed by whoever asked: Lua's numbers aren't exact enough.
--
-- keys[2]  `trial:<plugin>:<old revision>:<new revision>`
-- asked    { daemon, what it has counted or false if that is nothing, when the last trial began whose end it has seen or false,
--            the decision or false }
-- returns  { when it began, how long ago that is, the decision or false, { daemon, what it has counted, by turns } }

local function trial()
  local daemon, counted, ended, decision = unpack(asked)
  local key = keys[FIXED_KEYS + 1]
  local fields = call('HGETALL', key)
  local stored, others, count = {}, {}, 0
  for n = 1, #fields, 2 do
    local field, value = fields[n], fields[n + 1]
    stored[field] = value
    if #field == 26 then
      count = count + 1
      if field ~= daemon then
        others[#others + 1], others[#others + 2] = field, value
      end
    end
  end
  writes.start()
  writes.knows(key)
  local began, reported = tonumber(stored.began), tonumber(stored.reported)
  if not began or not reported or now - reported >= TRIAL_KEPT or (ended and began <= ended) then
    for n = 1, #fields, 2 do
      writes.value('HDEL', key, fields[n])
    end
    stored, others, count = {}, {}, 0
    began = ended and max(now, ended + 1) or now
  end
  decision = stored.decision or decision
  if not counted and stored[daemon] then
    writes.value('HDEL', key, daemon)
  end
  writes.pair('HSET', key, 'began', score(began))
  writes.pair('HSET', key, 'reported', score(now))
  if decision then
    writes.pair('HSET', key, 'decision', decision)
  end
  if counted and (stored[daemon] or count < TRIAL_DAEMONS_MAX) then
    writes.pair('HSET', key, daemon, counted)
  end
  writes.value('EXPIRE', key, TRIAL_KEPT / 1000)
  writes.commit()
  return { began, max(now - began, 0), decision or false, others }
end
