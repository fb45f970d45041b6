-- The fair queues, and the weights of their groups that have another one than 1.
CREATE TABLE fair_queue (
    tenant TEXT NOT NULL,
    queue  TEXT NOT NULL,
    PRIMARY KEY (tenant, queue)
) STRICT, WITHOUT ROWID;
CREATE TABLE fair_weight (
    tenant    TEXT NOT NULL,
    queue     TEXT NOT NULL,
    group_key TEXT NOT NULL,
    weight    INTEGER NOT NULL,
    PRIMARY KEY (tenant, queue, group_key)
) STRICT, WITHOUT ROWID;

-- Of each priority of a fair queue the highest place that was leased; and the place of the last job of each group, which is empty for
-- the jobs that have none.
CREATE TABLE fair_clock (
    tenant   TEXT NOT NULL,
    queue    TEXT NOT NULL,
    priority INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    PRIMARY KEY (tenant, queue, priority)
) STRICT, WITHOUT ROWID;
CREATE TABLE fair_last (
    tenant    TEXT NOT NULL,
    queue     TEXT NOT NULL,
    priority  INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    place     INTEGER NOT NULL,
    PRIMARY KEY (tenant, queue, priority, group_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX fair_last_by_place ON fair_last (tenant, queue, priority, place);

-- What tells jobs apart that have the same place in a fair queue: their ids. Elsewhere arrivals do, and this is empty.
ALTER TABLE job ADD COLUMN tie TEXT NOT NULL DEFAULT '';
DROP INDEX job_ready;
CREATE INDEX job_ready ON job (tenant, queue, lane, (expiries > 0), priority DESC, arrival, tie)
    WHERE state = 1 AND parked_at IS NULL;
DROP INDEX job_in_line;
CREATE INDEX job_in_line ON job (tenant, ((255 - priority) << 45 | arrival), tie) WHERE state = 1;
