-- States are told by name, not by order, so that another one needs no new table: 0 scheduled, 1 ready, 2 leased,
-- 3 succeeded, 4 dead, 5 cancelled. What is final has a finished_at. This changes what is checked, and no row:
-- https://sqlite.org/lang_altertable.html#otheralter
PRAGMA writable_schema = on;
UPDATE sqlite_schema SET sql = replace(replace(replace(sql,
    'CHECK (state BETWEEN 0 AND 5)',
    'CHECK (state >= 0)'),
    'CHECK ((finished_at IS NOT NULL) = (state >= 3))',
    'CHECK (CASE WHEN state IN (0, 1, 2) THEN finished_at IS NULL WHEN state IN (3, 4, 5) THEN finished_at IS NOT NULL ELSE 1 END)'),
    'CHECK ((remove_at IS NOT NULL) = (state >= 3))',
    'CHECK ((remove_at IS NOT NULL) = (finished_at IS NOT NULL))')
WHERE type = 'table' AND name = 'job';
PRAGMA writable_schema = reset;

DROP INDEX job_holding_key;
CREATE UNIQUE INDEX job_holding_key ON job (tenant, unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL;
