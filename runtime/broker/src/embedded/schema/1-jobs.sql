-- Times are milliseconds since 1970-01-01T00:00:00Z. Numbers that may pass 2^63 wrap into the negative and back.

-- A job, but for what is large. The state is its place in the order of a life: 0 scheduled, 1 ready, 2 leased,
-- 3 succeeded, 4 dead, 5 cancelled. What belongs to one state only is null in the others.
CREATE TABLE job (
    nr               INTEGER PRIMARY KEY,
    tenant           TEXT NOT NULL,
    id               TEXT NOT NULL,
    queue            TEXT NOT NULL,
    kind             TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    unique_key       TEXT,
    state            INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
    due_at           INTEGER CHECK ((due_at IS NOT NULL) = (state = 0)),
    arrival          INTEGER CHECK ((arrival IS NOT NULL) = (state = 1)),
    lease_expires_at INTEGER CHECK ((lease_expires_at IS NOT NULL) = (state = 2)),
    finished_at      INTEGER CHECK ((finished_at IS NOT NULL) = (state >= 3)),
    remove_at        INTEGER CHECK ((remove_at IS NOT NULL) = (state >= 3)),
    enqueued_at      INTEGER NOT NULL,
    leased_at        INTEGER,
    lease            INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    attempts         INTEGER NOT NULL DEFAULT 0,
    expiries         INTEGER NOT NULL DEFAULT 0,
    reason           TEXT,
    message          TEXT,
    progress         TEXT,
    fuel             INTEGER NOT NULL DEFAULT 0,
    memory_peak      INTEGER NOT NULL DEFAULT 0,
    wall_us          INTEGER NOT NULL DEFAULT 0,
    cpu_us           INTEGER NOT NULL DEFAULT 0,
    host_calls       INTEGER NOT NULL DEFAULT 0,
    revision         TEXT,
    output           BLOB
) STRICT;

-- Each index holds only the jobs that it is for, in the order in which they are wanted, so that no step has to look at
-- more jobs than it takes.
CREATE UNIQUE INDEX job_by_id ON job (tenant, id);
CREATE UNIQUE INDEX job_holding_key ON job (tenant, unique_key) WHERE unique_key IS NOT NULL AND state < 3;
CREATE INDEX job_scheduled ON job (tenant, due_at, id) WHERE state = 0;
CREATE INDEX job_ready ON job (tenant, queue, priority DESC, arrival) WHERE state = 1;
CREATE INDEX job_leased ON job (tenant, lease_expires_at, id) WHERE state = 2;
CREATE INDEX job_final ON job (tenant, state, finished_at, id) WHERE finished_at IS NOT NULL;
CREATE INDEX job_removable ON job (tenant, remove_at, id) WHERE remove_at IS NOT NULL;

-- Apart, so that a job which changes its state isn't written anew with all its input.
CREATE TABLE payload (
    nr    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

-- The lines that are kept with a job, in their order. The fields are JSON: an array of pairs.
CREATE TABLE log (
    nr      INTEGER NOT NULL,
    line    INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    level   TEXT NOT NULL,
    message TEXT NOT NULL,
    fields  TEXT NOT NULL,
    PRIMARY KEY (nr, line)
) STRICT, WITHOUT ROWID;

-- What plugins keep from job to job.
CREATE TABLE state (
    tenant     TEXT NOT NULL,
    plugin     TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tenant, plugin, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX state_expiring ON state (tenant, expires_at) WHERE expires_at IS NOT NULL;

-- How often a job has become ready so far, of any tenant: who arrives later has the greater number.
CREATE TABLE arrivals (n INTEGER NOT NULL) STRICT;
INSERT INTO arrivals VALUES (0);

-- How many jobs there are in each state, so that nobody has to count them.
CREATE TABLE tally (
    tenant TEXT NOT NULL,
    state  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (tenant, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER job_comes AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (new.tenant, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER job_moves AFTER UPDATE OF state ON job WHEN old.state <> new.state BEGIN
    UPDATE tally SET n = n - 1 WHERE tenant = old.tenant AND state = old.state;
    INSERT INTO tally VALUES (new.tenant, new.state, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
    UPDATE tally SET n = n - 1 WHERE tenant = old.tenant AND state = old.state;
    DELETE FROM payload WHERE nr = old.nr;
    DELETE FROM log WHERE nr = old.nr;
END;
