-- What is held back: jobs of a queue and of a kind, where an empty name stands for any. One of the same scope is replaced.
CREATE TABLE hold (
    tenant  TEXT NOT NULL,
    queue   TEXT NOT NULL,
    kind    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    by_whom TEXT,
    since   INTEGER NOT NULL,
    until   INTEGER,
    note    TEXT,
    PRIMARY KEY (tenant, queue, kind)
) STRICT, WITHOUT ROWID;
