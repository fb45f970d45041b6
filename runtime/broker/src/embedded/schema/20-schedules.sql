-- The schedules: a record for each, of which only when it is due means something here. The version changes with each write.
CREATE TABLE schedule (
    tenant  TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    due_at  INTEGER,
    record  BLOB NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;
CREATE INDEX schedule_by_due ON schedule (tenant, due_at) WHERE due_at IS NOT NULL;
