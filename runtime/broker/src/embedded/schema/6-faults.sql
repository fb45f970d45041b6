-- How often a job was given back for a fault of its host since an attempt of it last ended.
ALTER TABLE job ADD COLUMN faults INTEGER NOT NULL DEFAULT 0;
