-- A job that waits for others (state 6): its number, which rises in the order in which they came.
ALTER TABLE job ADD COLUMN blocked_nr INTEGER CHECK ((blocked_nr IS NOT NULL) = (state = 6));
CREATE INDEX job_blocked ON job (tenant, blocked_nr, id) WHERE state = 6;

-- The group of a job, whether it has a turn of it, and its rank in the group's line while it waits for one.
ALTER TABLE job ADD COLUMN group_key TEXT;
ALTER TABLE job ADD COLUMN has_turn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN line_rank INTEGER;
CREATE INDEX job_in_group ON job (tenant, queue, group_key, line_rank, blocked_nr) WHERE line_rank IS NOT NULL;
CREATE INDEX job_with_turn ON job (tenant, queue, group_key) WHERE has_turn = 1;
CREATE INDEX job_holding_group ON job (tenant, finished_at) WHERE has_turn = 1 AND finished_at IS NOT NULL;

-- The rules of queues for their groups: how many turns each has, whether one job at a time goes in strict order, and whether a
-- dead one then holds its group.
CREATE TABLE group_rules (
    tenant    TEXT NOT NULL,
    queue     TEXT NOT NULL,
    turns     INTEGER NOT NULL,
    is_strict INTEGER NOT NULL,
    holds     INTEGER NOT NULL,
    PRIMARY KEY (tenant, queue)
) STRICT, WITHOUT ROWID;

-- A blocked job waits as well.
DROP TRIGGER job_waits;
DROP TRIGGER payload_waits;
DROP TRIGGER job_waits_again;
DROP TRIGGER job_waits_no_more;
DROP TRIGGER job_goes;
CREATE TRIGGER job_waits AFTER INSERT ON job WHEN new.state IN (0, 1, 6) BEGIN
    INSERT INTO waiting VALUES (new.tenant, 1, 0) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER payload_waits AFTER INSERT ON payload BEGIN
    UPDATE waiting SET bytes = bytes + octet_length(new.bytes)
        WHERE tenant = (SELECT tenant FROM job WHERE nr = new.nr AND state IN (0, 1, 6));
END;
CREATE TRIGGER job_waits_again AFTER UPDATE OF state ON job
    WHEN old.state NOT IN (0, 1, 6) AND new.state IN (0, 1, 6) BEGIN
    INSERT INTO waiting
        VALUES (new.tenant, 1, coalesce((SELECT octet_length(payload.bytes) FROM payload WHERE nr = new.nr), 0))
        ON CONFLICT DO UPDATE SET jobs = jobs + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER job_waits_no_more AFTER UPDATE OF state ON job
    WHEN old.state IN (0, 1, 6) AND new.state NOT IN (0, 1, 6) BEGIN
    UPDATE waiting SET jobs = jobs - 1,
            bytes = bytes - coalesce((SELECT octet_length(payload.bytes) FROM payload WHERE nr = old.nr), 0)
        WHERE tenant = old.tenant;
END;
CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
    UPDATE tally SET n = n - 1 WHERE tenant = old.tenant AND state = old.state;
    UPDATE waiting SET jobs = jobs - 1,
            bytes = bytes - coalesce((SELECT octet_length(payload.bytes) FROM payload WHERE nr = old.nr), 0)
        WHERE tenant = old.tenant AND old.state IN (0, 1, 6);
    DELETE FROM payload WHERE nr = old.nr;
    DELETE FROM log WHERE nr = old.nr;
END;
