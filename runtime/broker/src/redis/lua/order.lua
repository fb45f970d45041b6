-- The order of ready jobs in a queue, which is a ZSET at `ready:<queue>`: each score is made of the priority and a number
-- in the order of becoming ready. The number starts over when no queue holds a job any more, so a score stays below 2^53,
-- up to which a double is exact, unless 2^45 jobs become ready without a pause.
local PRIORITY_MAX = 255
local PRIORITY_STEP = 2 ^ 45
