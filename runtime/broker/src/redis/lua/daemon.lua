-- Notes what a daemon tells of itself, or that it is gone: see `broker/src/daemons.rs`.
--
-- The list of daemons is no tenant's: its keys begin with `sandhog:{sandhog:tenants}:`, so they are where the list of tenants is.
-- It is a ZSET of when each was heard of last, and a HASH of what each has told.
--
-- asked  { id, what it tells or false if it is gone }

local function daemon()
  local id, told = unpack(asked)
  local seen, reports = PREFIX .. 'daemons', PREFIX .. 'daemon_reports'
  local gone = call('ZRANGE', seen, '-inf', score(now - DAEMON_KEPT), 'BYSCORE', 'LIMIT', '0', score(DAEMONS_FORGOTTEN_MAX))
  if told and #gone == 0 and not call('ZSCORE', seen, id) then
    local over = call('ZCARD', seen) + 1 - DAEMONS_MAX
    gone = over > 0 and call('ZRANGE', seen, '0', score(over - 1)) or gone
  end
  writes.start()
  for _, other in ipairs(gone) do
    if other ~= id then
      writes.value('ZREM', seen, other)
      writes.value('HDEL', reports, other)
    end
  end
  if told then
    writes.pair('ZADD', seen, score(now), id)
    writes.pair('HSET', reports, id, told)
  else
    writes.value('ZREM', seen, id)
    writes.value('HDEL', reports, id)
  end
  writes.commit()
end
