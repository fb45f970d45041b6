-- The breakers: each with its record, and with what keeps jobs of its kinds from being leased, if anything does.
CREATE TABLE breaker (
    tenant  TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    record  BLOB NOT NULL,
    gate    BLOB,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- The breakers whose probe a job is while it is leased, with blanks between their names.
ALTER TABLE job ADD COLUMN probe_of TEXT;
CREATE INDEX job_probing ON job (tenant) WHERE state = 2 AND probe_of IS NOT NULL;
