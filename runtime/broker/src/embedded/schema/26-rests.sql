-- Whether a dead job that holds its group has the rest of it cancelled.
ALTER TABLE group_rules ADD COLUMN cancels_rest INTEGER NOT NULL DEFAULT 0;

-- Dead jobs that hold their groups until those that waited behind them are cancelled, by when they died.
CREATE TABLE rest (
    tenant TEXT NOT NULL,
    job    TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX rest_in_order ON rest (tenant, at, job);
