-- Writes the record of a breaker, and what of it holds jobs back; or does nothing.
--
-- A HASH at `breakers` has the record of each: the version (6 bytes), and what means nothing here.
--
-- asked    { name, the version that is expected or false if there is to be no record, the record or false to remove it, what holds
--          jobs back or false, as in holds.lua }
-- returns  WRITTEN, STALE or TOO_MANY_BREAKERS

local breaker

do
  local VERSION = '>I6'

  function breaker()
    local name, expected, record, gate = unpack(asked)
    local records = PREFIX .. 'breakers'
    local stored = call('HGET', records, name)
    local version = stored and unpack_bytes(VERSION, stored)
    if version ~= expected then
      return STALE
    end
    if not version and record and #call('HGETALL', records) >= 2 * BREAKERS_MAX then
      return TOO_MANY_BREAKERS
    end
    writes.start()
    tally.start()
    if record then
      writes.pair('HSET', records, name, pack_bytes(VERSION, max(now, version and version + 1 or 0)) .. record)
    elseif version then
      writes.value('HDEL', records, name)
    end
    holds.set_gate(name, gate)
    tally.finish()
    writes.commit()
    return WRITTEN
  end
end
