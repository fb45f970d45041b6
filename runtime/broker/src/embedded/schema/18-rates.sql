-- The states of rate limits: when all their tokens are there again, in microseconds since 1970.
CREATE TABLE rates (
    tenant  TEXT NOT NULL,
    name    TEXT NOT NULL,
    full_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
