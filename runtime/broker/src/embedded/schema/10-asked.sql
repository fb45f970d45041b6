-- What each daemon was handed out last, and the number of its ask, so that an answer that was lost can be given again.
-- The leases are JSON: an array of pairs of a job's id and a lease's number.
CREATE TABLE asked (
    tenant TEXT NOT NULL,
    daemon TEXT NOT NULL,
    number INTEGER NOT NULL,
    leases TEXT NOT NULL,
    PRIMARY KEY (tenant, daemon)
) STRICT, WITHOUT ROWID;
