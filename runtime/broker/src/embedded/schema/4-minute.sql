-- The latest minute in which a tenant's runs were settled, so many after 1970, and how much fuel they had spent.
CREATE TABLE minute (
    tenant TEXT PRIMARY KEY,
    minute INTEGER NOT NULL,
    fuel   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
