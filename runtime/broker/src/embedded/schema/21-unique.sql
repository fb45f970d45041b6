-- Who holds which unique key, and how: until the job is final (0), has started (1), or the time is over (2); when it is free in any
-- case, past which time later jobs put nothing off, and whether they may give it their payload.
CREATE TABLE held_key (
    tenant      TEXT NOT NULL,
    key         TEXT NOT NULL,
    job         TEXT NOT NULL,
    until       INTEGER NOT NULL,
    ends_at     INTEGER,
    deadline    INTEGER,
    replaceable INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_key_ending ON held_key (tenant, ends_at) WHERE ends_at IS NOT NULL;

INSERT INTO held_key
    SELECT tenant, unique_key, id, 0, NULL, NULL, 0 FROM job WHERE unique_key IS NOT NULL AND finished_at IS NULL;
DROP INDEX job_holding_key;

-- As `UniqueUntil::is` says.
CREATE TRIGGER job_frees_key AFTER UPDATE OF state ON job WHEN new.unique_key IS NOT NULL BEGIN
    DELETE FROM held_key WHERE tenant = new.tenant AND key = new.unique_key AND job = new.id
        AND ((until IN (0, 1) AND new.finished_at IS NOT NULL) OR (until = 1 AND new.state = 2));
END;
CREATE TRIGGER job_takes_key_along AFTER DELETE ON job WHEN old.unique_key IS NOT NULL AND old.finished_at IS NULL BEGIN
    DELETE FROM held_key WHERE tenant = old.tenant AND key = old.unique_key AND job = old.id AND until <> 2;
END;
CREATE TRIGGER payload_changes AFTER UPDATE OF bytes ON payload BEGIN
    UPDATE waiting SET bytes = bytes + octet_length(new.bytes) - octet_length(old.bytes)
        WHERE tenant = (SELECT tenant FROM job WHERE nr = new.nr AND state IN (0, 1, 6));
END;
