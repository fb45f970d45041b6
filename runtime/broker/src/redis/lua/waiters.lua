-- Daemons that wait for jobs of a lane: those that were handed less of it than they asked for. Their ids are in a SET at
-- `waiters:<lane>`. Whoever puts a job into a lane that held none takes one of them out, and tells that one alone.
--
-- A daemon that is gone is forgotten when it is taken out, and with the whole set after a while. Where nobody is known to wait,
-- everybody is told. Suspects are nobody's to wait for: not every daemon may have one at the time.

local waiters = {}

do
  local KEPT = 60 * 60 -- seconds, for all of a lane
  local WAITERS_MAX = 250 -- of a lane

  local function key_of(lane)
    return PREFIX .. 'waiters:' .. lane
  end

  -- Says that a daemon waits for jobs of a lane.
  function waiters.wait(lane, daemon)
    local key = key_of(lane)
    local all = call('SMEMBERS', key)
    writes.knows(key)
    for _, known in ipairs(all) do
      if known == daemon then
        return
      end
    end
    if #all < WAITERS_MAX then
      writes.value('SADD', key, daemon)
      tally.note_waiters(true)
    end
    if #all == 0 then
      writes.value('EXPIRE', key, score(KEPT))
    end
  end

  -- Says that a daemon doesn't wait for jobs of a lane any more.
  function waiters.leave(lane, daemon)
    if tally.may_have_waiters() then
      writes.value('SREM', key_of(lane), daemon)
    end
  end

  -- Tells one of those who wait for a lane that it holds jobs, whoever asks not among them. Says whether there was any.
  function waiters.tell_one(lane, asker)
    if not tally.may_have_waiters() then
      return false
    end
    local key = key_of(lane)
    local all = call('SMEMBERS', key)
    writes.knows(key)
    if #all == 0 then
      -- Those of other lanes may be forgotten by this: then everybody is told.
      tally.note_waiters(false)
    end
    -- Any will do, and each should have its turn.
    for n = 1, #all do
      local daemon = all[(now + n) % #all + 1]
      waiters.leave(lane, daemon)
      if daemon ~= asker then
        writes.wake(NAMED .. daemon)
        return true
      end
    end
    return false
  end
end
