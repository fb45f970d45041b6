-- Writes the record of a schedule, and stores jobs of it; or does nothing.
--
-- When each schedule is due is in a ZSET at `schedules`: NEVER if it isn't. Its record is in a HASH at `schedules:records`: the
-- version (6 bytes), and what means nothing here.
--
-- keys[2..]  `job:<id>` of each job
-- asked      { name, the version that is expected or false if there is to be no record, the record or false to remove it, when it
--            is due or false, how many jobs, how many may wait, with how many bytes of payload, how many a payload may have }
-- batch      the jobs, as in creation.lua
-- returns    WRITTEN, STALE, TOO_MANY_SCHEDULES, or what an enqueue answers for a job that isn't stored

local schedule

do
  local VERSION = '>I6'

  -- Gathers the jobs; returns the refusal of the first one that isn't stored.
  local function create(count, bounds)
    waiting.begin_at(tally.read_with({ false, SEQUENCE })[2])
    local refusals = creation.create(batch, count, FIXED_KEYS + 1, bounds, false)
    local _, refusal = creation.first_refusal(refusals, count)
    return refusal
  end

  function schedule()
    local name, expected, record, due, count, jobs_max, bytes_max, payload_max = unpack(asked)
    local by_due, records = PREFIX .. 'schedules', PREFIX .. 'schedules:records'
    local stored = call('HGET', records, name)
    local version = stored and unpack_bytes(VERSION, stored)
    if version ~= expected then
      return STALE
    end
    if not version and record and call('ZCARD', by_due) >= SCHEDULES_MAX then
      return TOO_MANY_SCHEDULES
    end
    creation.begin()
    if count > 0 then
      local refusal = create(count, { jobs = jobs_max, bytes = bytes_max, payload = payload_max })
      if refusal then
        return refusal
      end
    end
    creation.complete()
    if record then
      if due and due < reads.first_score(by_due) then
        writes.wake(DUE)
      end
      writes.pair('ZADD', by_due, score(due or NEVER), name)
      writes.pair('HSET', records, name, pack_bytes(VERSION, max(now, version and version + 1 or 0)) .. record)
    elseif version then
      writes.value('ZREM', by_due, name)
      writes.value('HDEL', records, name)
    end
    writes.commit()
    return WRITTEN
  end
end
