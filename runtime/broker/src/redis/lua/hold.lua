-- Makes a hold, in place of one of the same scope, or ends one.
--
-- asked    { scope, why or false to end it, who makes it or false, a note or false, after how many milliseconds it ends or false,
--          when it ends or false }
-- returns  DONE or TOO_MANY_HOLDS; LIFTED or NOT_HELD

local function hold()
  local scope, reason, by, note, after, ends = unpack(asked)
  writes.start()
  tally.start()
  local reply
  if reason then
    reply = holds.make(scope, after and now + after or ends, reason, by, note)
  else
    reply = holds.lift(scope)
  end
  -- Those who wait for jobs have to look, and all have to know when the first hold ends.
  writes.wake()
  tally.finish()
  writes.commit()
  return reply
end
