-- How many jobs there are in each state, and of those that are not final how many in each queue, so that nobody has to count them.
-- The final ones of all queues are counted together, as an empty name.
CREATE TABLE queue_tally (
    tenant TEXT NOT NULL,
    state  INTEGER NOT NULL,
    queue  TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (tenant, state, queue)
) STRICT, WITHOUT ROWID;

INSERT INTO queue_tally
    SELECT tenant, state, iif(state IN (3, 4, 5), '', queue) AS of_queue, count(*) FROM job GROUP BY tenant, state, of_queue;

DROP TRIGGER job_comes;
DROP TRIGGER job_moves;
DROP TRIGGER job_goes;
DROP TABLE tally;
ALTER TABLE queue_tally RENAME TO tally;

-- Queues that have no more jobs of a state, which sweeps remove.
CREATE INDEX tally_empty ON tally (tenant) WHERE n = 0;

CREATE TRIGGER job_comes AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (new.tenant, new.state, iif(new.state IN (3, 4, 5), '', new.queue), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER job_moves AFTER UPDATE OF state ON job WHEN old.state <> new.state BEGIN
    UPDATE tally SET n = n - 1
        WHERE tenant = old.tenant AND state = old.state AND queue = iif(old.state IN (3, 4, 5), '', old.queue);
    INSERT INTO tally VALUES (new.tenant, new.state, iif(new.state IN (3, 4, 5), '', new.queue), 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
    UPDATE tally SET n = n - 1
        WHERE tenant = old.tenant AND state = old.state AND queue = iif(old.state IN (3, 4, 5), '', old.queue);
    UPDATE waiting SET jobs = jobs - 1,
            bytes = bytes - coalesce((SELECT octet_length(payload.bytes) FROM payload WHERE nr = old.nr), 0)
        WHERE tenant = old.tenant AND old.state IN (0, 1, 6);
    DELETE FROM payload WHERE nr = old.nr;
    DELETE FROM log WHERE nr = old.nr;
END;
