-- The kinds that have a lane of their own in a queue, and when each was last noted to be asked for.
CREATE TABLE lanes (
    tenant   TEXT NOT NULL,
    queue    TEXT NOT NULL,
    kind     TEXT NOT NULL,
    noted_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, queue, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_by_note ON lanes (tenant, noted_at);

-- How often a lane of a tenant has come or gone.
CREATE TABLE lane_changes (
    tenant TEXT PRIMARY KEY,
    n      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where a ready job waits: in the lane of its kind, or with all others of its queue if this is empty.
ALTER TABLE job ADD COLUMN lane TEXT NOT NULL DEFAULT '';
-- Which limit of the fleet a leased job counts against.
ALTER TABLE job ADD COLUMN limited_by TEXT;

DROP INDEX job_ready;
CREATE INDEX job_ready ON job (tenant, queue, lane, (expiries > 0), priority DESC, arrival)
    WHERE state = 1 AND parked_at IS NULL;
CREATE INDEX job_in_lane ON job (tenant) WHERE state = 1 AND parked_at IS NULL AND lane <> '';
CREATE INDEX job_limited ON job (tenant, limited_by) WHERE state = 2 AND limited_by IS NOT NULL;
