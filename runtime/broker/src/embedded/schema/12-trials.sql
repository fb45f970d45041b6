-- The trials of canaries: of the two revisions of a plugin, `stable` is in force and `canary` on trial. How a trial ends is a text,
-- once a daemon has found it out.
CREATE TABLE trial (
    tenant      TEXT NOT NULL,
    plugin      TEXT NOT NULL,
    stable      TEXT NOT NULL,
    canary      TEXT NOT NULL,
    began_at    INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    decision    TEXT,
    PRIMARY KEY (tenant, plugin, stable, canary)
) STRICT, WITHOUT ROWID;
CREATE INDEX trial_by_report ON trial (tenant, reported_at);

-- What each daemon has counted in a trial, in the form of `Records::to_bytes`.
CREATE TABLE trial_count (
    tenant  TEXT NOT NULL,
    plugin  TEXT NOT NULL,
    stable  TEXT NOT NULL,
    canary  TEXT NOT NULL,
    daemon  TEXT NOT NULL,
    counted BLOB NOT NULL,
    PRIMARY KEY (tenant, plugin, stable, canary, daemon)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER trial_goes AFTER DELETE ON trial BEGIN
    DELETE FROM trial_count WHERE tenant = old.tenant AND plugin = old.plugin AND stable = old.stable AND canary = old.canary;
END;
