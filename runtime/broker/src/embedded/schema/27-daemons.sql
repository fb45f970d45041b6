-- The daemons: when each was heard of last, and what it told. They belong to no tenant.
CREATE TABLE daemon (
    id     TEXT NOT NULL PRIMARY KEY,
    seen   INTEGER NOT NULL,
    report BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX daemon_by_seen ON daemon (seen);
