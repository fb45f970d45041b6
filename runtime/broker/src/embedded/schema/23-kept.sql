-- The plugin among whose final jobs a job is counted, and how many there are of each state; kept by triggers.
ALTER TABLE job ADD COLUMN kept_of TEXT;
CREATE INDEX job_kept_of ON job (tenant, kept_of, state, finished_at, id) WHERE kept_of IS NOT NULL;

CREATE TABLE kept (
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    state  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (tenant, plugin, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER job_is_kept AFTER UPDATE OF kept_of ON job WHEN old.kept_of IS NOT new.kept_of BEGIN
    UPDATE kept SET n = n - 1 WHERE tenant = old.tenant AND plugin = old.kept_of AND state = old.state;
    INSERT INTO kept SELECT new.tenant, new.kept_of, new.state, 1 WHERE new.kept_of IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER job_is_kept_no_more AFTER DELETE ON job WHEN old.kept_of IS NOT NULL BEGIN
    UPDATE kept SET n = n - 1 WHERE tenant = old.tenant AND plugin = old.kept_of AND state = old.state;
END;
