-- The start of every script: its keys by name, what is asked, and the time.
--
-- KEYS[1..6]  the tenant's own keys, as named below
-- KEYS[7..]   as the script says; and last, a key that is never there: see `Keys::never`
-- ARGV[1]     the time in milliseconds if a test moves the clock by hand; else nothing, and Redis tells it
-- ARGV[2]     what is asked, in MessagePack, as the script says
-- ARGV[3]     the batch, if it takes one: its items one after the other, each in the form that the script says
--
-- Scripts declare every key that their caller can name. What is left are keys of jobs and queues whose names the
-- script itself reads from the tenant's keys. They begin with the same `sandhog:{tenant}:`, so they are in the same
-- slot, and in reach of the same ACL pattern.

local call = redis.call
local sub, byte, char = string.sub, string.byte, string.char
local pack_bytes, unpack_bytes, unpack = struct.pack, struct.unpack, unpack

local QUEUES = KEYS[1] -- SET: the queues that hold a ready job
local SCHEDULE = KEYS[2] -- ZSET: when due -> id, priority (one byte), queue
local LEASES = KEYS[3] -- ZSET: when the lease runs out -> id
local FINALS = KEYS[4] -- ZSET: when its first job is to be removed -> class, such as `succeeded:86400000`
local UNIQUE = KEYS[5] -- HASH: unique key -> id of the job that holds it
local SEQUENCE = KEYS[6] -- STRING: how many jobs became ready so far
local FIXED_KEYS = 6

local PREFIX = sub(QUEUES, 1, -#'queues' - 1)
local JOB_KEY, RUN_KEY, LOG_KEY = PREFIX .. 'job:', PREFIX .. 'run:', PREFIX .. 'log:' -- and an id
local READY_KEY = PREFIX .. 'ready:' -- and a queue
local CLASS_KEY = FINALS .. ':' -- and a class

local function id_of(key)
  return sub(key, -26)
end

local asked, batch = cmsgpack.unpack(ARGV[2]), ARGV[3]

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A whole number as text, for a command. Redis would make text of it too, but takes several times as long.
local function score(number)
  return string.format('%d', number)
end

-- Lua hands a call no more than some 8,000 values. The slice is even, so pairs stay together.
local SLICE = 4000

local function call_with_all(command, key, values)
  for first = 1, #values, SLICE do
    call(command, key, unpack(values, first, math.min(first + SLICE - 1, #values)))
  end
end

local function get_all(keys)
  if #keys <= SLICE then
    return #keys > 0 and call('MGET', unpack(keys)) or {}
  end
  local values = {}
  for first = 1, #keys, SLICE do
    local last = math.min(first + SLICE - 1, #keys)
    for offset, value in ipairs(call('MGET', unpack(keys, first, last))) do
      values[first + offset - 1] = value
    end
  end
  return values
end

-- Tells the listeners: nothing if there is work, or the id of a leased job that somebody wants cancelled.
local function wake(about)
  call('PUBLISH', PREFIX .. 'wake', about or '')
end
