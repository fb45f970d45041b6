-- Flows: jobs that wait for others. A job that waits so is blocked, as one that waits for its group's turn is, but has no rank.
--
-- The jobs of flows, each with its place in its flow and its name there. A flow has the id of its first job, whether or not that is
-- still kept.
CREATE TABLE flow_job (
    nr       INTEGER PRIMARY KEY,
    tenant   TEXT NOT NULL,
    flow     TEXT NOT NULL,
    job      TEXT NOT NULL,
    position INTEGER NOT NULL,
    name     TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX flow_job_by_id ON flow_job (tenant, flow, job);

-- The edges of flows, with the dependant: which job it comes after, the name of that one, what becomes of the dependant if it ends
-- badly (the code of `OnFailure`), and whether the dependant still waits for it.
CREATE TABLE edge (
    nr         INTEGER NOT NULL,
    ordinal    INTEGER NOT NULL,
    tenant     TEXT NOT NULL,
    parent     TEXT NOT NULL,
    name       TEXT NOT NULL,
    on_failure INTEGER NOT NULL,
    is_open    INTEGER NOT NULL,
    PRIMARY KEY (nr, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_open ON edge (tenant, parent, nr) WHERE is_open = 1;

-- Jobs that have ended and that others come after, until their edges are settled: the end is the code of `ParentEnd`.
CREATE TABLE settled (
    tenant TEXT NOT NULL,
    job    TEXT NOT NULL,
    end    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, job, end)
) STRICT, WITHOUT ROWID;
CREATE INDEX settled_in_order ON settled (tenant, at, job, end);

CREATE TRIGGER flow_job_goes AFTER DELETE ON job WHEN old.options IS NOT NULL BEGIN
    DELETE FROM flow_job WHERE nr = old.nr;
    DELETE FROM edge WHERE nr = old.nr;
END;
