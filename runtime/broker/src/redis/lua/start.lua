-- The start of every call: its keys by name, what is asked, and the time.
--
-- keys[1]     a key that is never there: see `Keys::of`. The names of all others are made of its name
-- keys[2..]   as the function says
-- args[1]     the time in milliseconds if a test moves the clock by hand; else nothing, and Redis tells it
-- args[2]     what is asked, in MessagePack, as the function says
-- args[3]     the batch, if the function takes one: its items one after the other, each in the form that the function says
--
-- Functions declare the keys that only their caller can name. The names of the others they make themselves, or read from the
-- tenant's keys. They begin with the same `sandhog:{tenant}:`, so they are in the same slot, and in reach of the same ACL
-- pattern.
--
-- Whatever a module keeps between its functions belongs to one call, and its `start` forgets what an earlier one left.

local call = redis.call
local sub, byte, char, format = string.sub, string.byte, string.char, string.format
local pack_bytes, unpack_bytes, unpack = struct.pack, struct.unpack, unpack
local pack_values, unpack_values = cmsgpack.pack, cmsgpack.unpack

local min, max, floor, huge = math.min, math.max, math.floor, math.huge

local PRIORITY_MAX = 255
local PRIORITY_STEP = 2 ^ 45 -- between the scores of two priorities in a lane

local FIXED_KEYS = 1

local keys, asked, batch, now -- of the present call
-- Those of its tenant.
local QUEUES -- SET: the queues that hold a ready job
local SCHEDULE -- ZSET: when due -> id, priority (one byte), queue
local LEASES -- ZSET: when the lease runs out -> id
local FINALS -- ZSET: when its first job is to be removed -> class, such as `succeeded:86400000`
local STARTING -- ZSET: see starting.lua
local BLOCKED_KEY -- ZSET: jobs that wait for others: see groups.lua
local UNIQUE -- HASH: unique key -> id of the job that holds it
local SEQUENCE -- STRING: how many jobs became ready so far
local TALLY_KEY -- STRING: see tally.lua
local PREFIX, JOB_KEY, RUN_KEY, LOG_KEY, READY_KEY, CLASS_KEY
local first_key_before

local function begin(given, args)
  keys = given
  -- What is kept from call to call is made of the first key alone: whoever names another one spoils no later call.
  if given[1] ~= first_key_before then
    first_key_before = given[1]
    PREFIX = sub(given[1], 1, -#'never' - 1)
    QUEUES, SCHEDULE, LEASES = PREFIX .. 'queues', PREFIX .. 'schedule', PREFIX .. 'leases'
    STARTING = PREFIX .. 'starting'
    FINALS, UNIQUE, SEQUENCE = PREFIX .. 'finals', PREFIX .. 'unique', PREFIX .. 'sequence'
    TALLY_KEY, BLOCKED_KEY = PREFIX .. 'tally', PREFIX .. 'blocked'
    JOB_KEY, RUN_KEY, LOG_KEY = PREFIX .. 'job:', PREFIX .. 'run:', PREFIX .. 'log:' -- and an id
    READY_KEY = PREFIX .. 'ready:' -- and a queue
    CLASS_KEY = FINALS .. ':' -- and a class
  end
  asked, batch = unpack_values(args[2]), args[3]
  now = tonumber(args[1])
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  end
end

-- What the server calls for a function.
local function entry(run)
  return function(given, args)
    begin(given, args)
    local reply = run()
    keys, asked, batch = nil, nil, nil
    return reply
  end
end

-- The same for a function that does the work of daemons. A producer's user may write some of the keys that such a function
-- writes, and so might be refused in its midst; so it is refused before anything is done.
local function entry_of_work(run)
  return entry(function()
    if not redis.acl_check_cmd('ZADD', LEASES, '0', '0') then
      error(redis.error_reply('NOPERM the user may enqueue jobs and look at them at most'))
    end
    return run()
  end)
end

local function id_of(key)
  return sub(key, -26)
end

-- A whole number as text, for a command. Redis would make text of it too, but takes several times as long.
local function score(number)
  return format('%d', number)
end

-- Lua hands a call no more than some 8,000 values. The slice is even, so pairs stay together.
local SLICE = 7000
