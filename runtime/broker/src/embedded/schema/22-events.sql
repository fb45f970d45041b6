-- Until when somebody wants the events of a tenant, for how long and how many of them are kept, and the number of the last one.
CREATE TABLE event_log (
    tenant  TEXT NOT NULL PRIMARY KEY,
    until   INTEGER NOT NULL,
    keep_ms INTEGER NOT NULL,
    most    INTEGER NOT NULL,
    last    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The events, numbered by tenant without a gap. The number of an event's kind never changes.
CREATE TABLE event (
    tenant    TEXT NOT NULL,
    number    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    event     INTEGER NOT NULL,
    job       TEXT NOT NULL,
    queue     TEXT NOT NULL,
    kind      TEXT NOT NULL,
    group_key TEXT,
    attempt   INTEGER,
    reason    TEXT,
    PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID;
