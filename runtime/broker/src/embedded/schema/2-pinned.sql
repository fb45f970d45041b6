-- The only revision that may run the job; any, if it is null.
ALTER TABLE job ADD COLUMN pinned TEXT;
