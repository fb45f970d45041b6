-- Sets the limit of one group, switches it on or off, or removes it; and lets in who may get in by that.
--
-- asked    { queue, key of the group, what is done: 0 removes it, 1 switches it on, 2 switches it off, 3 sets it, its turns, who sets it
--          or false, a note or false, after how many milliseconds it ends or false, when it ends or false }
-- returns  DONE, NOT_LIMITED or TOO_MANY_LIMITS

local function group_limit()
  local queue, key, what, turns, by, note, after, ends = unpack(asked)
  writes.start()
  waiting.start()
  lanes.start()
  tally.start()
  events.start()
  groups.start()
  local before = groups.limit_of(queue, key)
  if what ~= 3 and not before then
    return NOT_LIMITED
  elseif what == 3 and not before and groups.count_limits() >= GROUP_LIMITS_MAX then
    return TOO_MANY_LIMITS
  end
  if what == 3 then
    groups.set_limit(queue, key, { turns, true, after and now + after or ends, now, by, note })
  elseif what == 0 then
    groups.set_limit(queue, key, false)
  else
    groups.set_limit(queue, key, { before[1], what == 1, before[3], before[4], before[5], before[6] })
  end
  groups.finish(SWEEP_MAX)
  waiting.finish_and_wake()
  events.finish()
  tally.finish()
  writes.commit()
  return DONE
end
