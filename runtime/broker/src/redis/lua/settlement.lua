-- Records how runs ended, one after the other, each whole or not at all.
--
-- KEYS[7..]  `run:<id>` of each settlement, then whatever keys they refer to by their place in KEYS
-- asked      { how many settlements, log lines kept, days for which usage is kept, what the batch comes to if all of it is
--            recorded as sent: { plugin, account as in account.lua, by turns } }
-- batch      of each settlement: lease, what, delay, how long the job is kept if this makes it final, the tail of the run
--            as it would be if nothing had been before, log lines or nothing, effects or nothing, which of the plugins
--            ran or 0, what the run spent: an account but for its first numbers
-- effects    a MessagePack array: { place of `state:<plugin>:<key>` in KEYS, value or false, by turns },
--            { place, write, value, ttl, by turns }, how many jobs, the place of the first one's `job:<id>` in KEYS, the
--            jobs as in creation.lua, and how many bytes and keys of state the plugin may keep
-- returns    for each settlement: LOST, APPLIED, TOO_MANY_BYTES or TOO_MANY_KEYS of state, or the key of the state that
--            was in conflict

local LOST, APPLIED, TOO_MANY_BYTES, TOO_MANY_KEYS = 0, 1, 2, 3
local SUCCEED, RETRY, RELEASE, BURY, CANCEL_IT = 1, 2, 3, 4, 5
local DELETE, SET, ADD, REPLACE = 1, 2, 3, 4

local SETTLEMENT = '>I8BI8I8I4c0I4c0I4c0I2I2c0'

local count, lines_kept, days_kept, totals = unpack(asked)
