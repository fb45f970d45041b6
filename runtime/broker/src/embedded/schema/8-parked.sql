-- When a ready job was last found to be one that can't be read, as a newer version wrote it. It isn't handed out.
ALTER TABLE job ADD COLUMN parked_at INTEGER CHECK (parked_at IS NULL OR state = 1);
CREATE INDEX job_parked ON job (tenant, parked_at) WHERE parked_at IS NOT NULL;

-- What can be handed out, queue by queue: suspects apart, as few of them go at a time.
DROP INDEX job_ready;
CREATE INDEX job_ready ON job (tenant, queue, (expiries > 0), priority DESC, arrival) WHERE state = 1 AND parked_at IS NULL;

-- All that is ready, as it is listed: by priority, then by arrival, as one number.
CREATE INDEX job_in_line ON job (tenant, ((255 - priority) << 45 | arrival)) WHERE state = 1;
