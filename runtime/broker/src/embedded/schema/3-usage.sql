-- What a plugin's runs have spent on a day, so many days after 1970-01-01. The numbers stay at 2^63 - 1 rather than pass
-- it; memory is bytes times microseconds, in units of 2^24, and what is no whole one.
CREATE TABLE usage (
    tenant      TEXT NOT NULL,
    day         INTEGER NOT NULL,
    plugin      TEXT NOT NULL,
    succeeded   INTEGER NOT NULL,
    retried     INTEGER NOT NULL,
    dead        INTEGER NOT NULL,
    cancelled   INTEGER NOT NULL,
    released    INTEGER NOT NULL,
    fuel        INTEGER NOT NULL,
    cpu_us      INTEGER NOT NULL,
    wall_us     INTEGER NOT NULL,
    memory_high INTEGER NOT NULL,
    memory_low  INTEGER NOT NULL,
    bytes_in    INTEGER NOT NULL,
    bytes_out   INTEGER NOT NULL,
    host_calls  INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plugin)
) STRICT, WITHOUT ROWID;
