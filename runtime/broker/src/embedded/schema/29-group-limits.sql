-- Limits of single groups, in place of what their queue's rule gives to each.
CREATE TABLE group_limit (
    tenant    TEXT NOT NULL,
    queue     TEXT NOT NULL,
    group_key TEXT NOT NULL,
    turns     INTEGER NOT NULL,
    is_on     INTEGER NOT NULL,
    by_whom   TEXT,
    since     INTEGER NOT NULL,
    until     INTEGER,
    note      TEXT,
    PRIMARY KEY (tenant, queue, group_key)
) STRICT, WITHOUT ROWID;
