-- What a job was asked for beyond what every job has, in MessagePack; null if there is nothing.
ALTER TABLE job ADD COLUMN options BLOB;
