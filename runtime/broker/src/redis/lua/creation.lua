-- The form of one job to create, in a batch: delay, layout, priority, queue, unique key or nothing, and the bytes of the
-- job from its priority on.
local JOB = '>I8BBBc0I2c0I4c0'

local JOB_START = '>BI6' -- what the script adds: layout, and when it is enqueued
