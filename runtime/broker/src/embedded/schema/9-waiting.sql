-- How many jobs wait, scheduled or ready, and the bytes of their payloads; kept by triggers.
CREATE TABLE waiting (
    tenant TEXT PRIMARY KEY,
    jobs   INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO waiting
    SELECT tenant, count(*), coalesce(sum(octet_length(bytes)), 0) FROM job LEFT JOIN payload USING (nr)
    WHERE state IN (0, 1) GROUP BY tenant;

-- A job comes before its payload, and takes it along when it goes.
CREATE TRIGGER job_waits AFTER INSERT ON job WHEN new.state IN (0, 1) BEGIN
    INSERT INTO waiting VALUES (new.tenant, 1, 0) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER payload_waits AFTER INSERT ON payload BEGIN
    UPDATE waiting SET bytes = bytes + octet_length(new.bytes)
        WHERE tenant = (SELECT tenant FROM job WHERE nr = new.nr AND state IN (0, 1));
END;
CREATE TRIGGER job_waits_again AFTER UPDATE OF state ON job WHEN old.state NOT IN (0, 1) AND new.state IN (0, 1) BEGIN
    INSERT INTO waiting
        VALUES (new.tenant, 1, coalesce((SELECT octet_length(payload.bytes) FROM payload WHERE nr = new.nr), 0))
        ON CONFLICT DO UPDATE SET jobs = jobs + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER job_waits_no_more AFTER UPDATE OF state ON job WHEN old.state IN (0, 1) AND new.state NOT IN (0, 1) BEGIN
    UPDATE waiting SET jobs = jobs - 1,
            bytes = bytes - coalesce((SELECT octet_length(payload.bytes) FROM payload WHERE nr = old.nr), 0)
        WHERE tenant = old.tenant;
END;
DROP TRIGGER job_goes;
CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
    UPDATE tally SET n = n - 1 WHERE tenant = old.tenant AND state = old.state;
    UPDATE waiting SET jobs = jobs - 1,
            bytes = bytes - coalesce((SELECT octet_length(payload.bytes) FROM payload WHERE nr = old.nr), 0)
        WHERE tenant = old.tenant AND old.state IN (0, 1);
    DELETE FROM payload WHERE nr = old.nr;
    DELETE FROM log WHERE nr = old.nr;
END;
