-- What happened to a job since its producer asked for it, at `run:<id>`. A job that was never leased or cancelled has
-- none. It has two parts:
--
-- - a head of fixed length: state, whether somebody wants it cancelled, attempts, expiries, the number of its lease,
--   when it was leased and when it finished (0 if it wasn't);
-- - a tail, which mostly goes through unopened: a MessagePack array of unique key, usage, reason, progress and output,
--   each `false` if there is none.

local RUN_HEAD = '>BBI4I4I6I6I6'
local RUN_HEAD_BYTES = 1 + 1 + 4 + 4 + 6 + 6 + 6
local STATE, CANCEL, ATTEMPTS, EXPIRIES, LEASE, LEASED_AT, FINISHED_AT = 1, 2, 3, 4, 5, 6, 7
local TAIL, OPEN = 8, 9 -- the tail as bytes; its places, if any holds something
local UNIQUE_KEY, RAN, WHY, PROGRESS = 1, 2, 3, 4
local EMPTY_TAIL = '\149\194\194\194\194\194'
local PLAIN_RUN_BYTES = RUN_HEAD_BYTES + #EMPTY_TAIL

-- As in `State::ALL`. A job that waits is stored as ready: whether it is scheduled is told by the schedule, so that
-- nothing of the job has to be touched when it becomes due.
local SCHEDULED, READY, LEASED, SUCCEEDED, DEAD, CANCELLED = 0, 1, 2, 3, 4, 5
local CLASS_OF = { [SUCCEEDED] = 'succeeded:', [DEAD] = 'dead:', [CANCELLED] = 'cancelled:' } -- and how long they are kept

-- How the bytes at `job:<id>` begin: layout, when it was enqueued, priority, unique key, queue. What follows, no script
-- looks into: the revision that it is pinned to (in layout 2 alone), the kind and the payload.
local ANY_REVISION, PINNED = 1, 2
local JOB_HEAD = '>BI6BI2c0Bc0'
local JOB_HEAD_BYTES_MAX = 1 + 6 + 1 + 2 + 256 + 1 + 63
