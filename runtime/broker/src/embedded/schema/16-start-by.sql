-- By when a job has to start for the first time; null once it has, and if it needn't.
ALTER TABLE job ADD COLUMN start_by INTEGER;
CREATE INDEX job_start_by ON job (tenant, start_by, id) WHERE start_by IS NOT NULL;
