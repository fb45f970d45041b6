-- How the latest attempts of the job ended: a JSON array of objects, the oldest first; null if there are none.
ALTER TABLE job ADD COLUMN history TEXT;
