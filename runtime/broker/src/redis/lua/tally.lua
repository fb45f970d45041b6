-- What is counted of a tenant, in a STRING at `tally`: how many jobs wait, how long their payloads are together, how long the
-- longest one has been since nothing waited, and how often a lane has come or gone.

local tally = {}

do
  local TALLY, TALLY_BYTES = '>I6I8I6I6', 26

  local is_known, is_changed
  local jobs_now, bytes_now, longest_now, lanes_now

  function tally.start()
    is_known, is_changed = false, false
  end

  local function tally_key()
    return PREFIX .. 'tally'
  end

  local function read()
    local stored = call('GET', tally_key())
    if stored and #stored >= TALLY_BYTES then
      jobs_now, bytes_now, longest_now, lanes_now = unpack_bytes(TALLY, stored)
    else
      jobs_now, bytes_now, longest_now, lanes_now = 0, 0, 0, 0
    end
    is_known = true
  end

  -- How much waits, with what this call has changed so far: jobs, bytes, and the longest payload.
  function tally.waiting()
    if not is_known then
      read()
    end
    return jobs_now, bytes_now, longest_now
  end

  -- How often a lane has come or gone.
  function tally.lanes()
    if not is_known then
      read()
    end
    return lanes_now
  end

  -- Says that so many jobs wait from now on, with so many bytes of payload, the longest of which has so many.
  function tally.came(jobs_more, bytes_more, longest)
    tally.waiting()
    jobs_now, bytes_now, longest_now = jobs_now + jobs_more, bytes_now + bytes_more, max(longest_now, longest)
    is_changed = true
  end

  -- Says that so many jobs with so many bytes of payload don't wait any more.
  function tally.went(jobs_gone, bytes_gone)
    tally.waiting()
    jobs_now, bytes_now = max(jobs_now - jobs_gone, 0), max(bytes_now - bytes_gone, 0)
    is_changed = true
  end

  -- Sets right how many jobs wait: an earlier version, which doesn't keep count, may have been at work.
  function tally.correct(actual)
    tally.waiting()
    if actual ~= jobs_now then
      bytes_now = jobs_now > 0 and floor(bytes_now * actual / jobs_now) or 0
      jobs_now, is_changed = actual, true
    end
  end

  -- Says that a lane has come or gone.
  function tally.count_lane()
    lanes_now = tally.lanes() + 1
    is_changed = true
  end

  function tally.finish()
    if not is_changed then
      return
    end
    if jobs_now == 0 then
      bytes_now, longest_now = 0, 0
    end
    if jobs_now == 0 and lanes_now == 0 then
      writes.remove(tally_key())
    else
      writes.string(tally_key(), pack_bytes(TALLY, jobs_now, bytes_now, longest_now, lanes_now))
    end
  end
end
