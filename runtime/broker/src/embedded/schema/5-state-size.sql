-- How much state each plugin has, keys and values together, whether or not its time is over; kept by triggers.
CREATE TABLE state_size (
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    keys   INTEGER NOT NULL,
    PRIMARY KEY (tenant, plugin)
) STRICT, WITHOUT ROWID;

INSERT INTO state_size
    SELECT tenant, plugin, sum(octet_length(key) + octet_length(value)), count(*) FROM state GROUP BY tenant, plugin;

CREATE TRIGGER state_comes AFTER INSERT ON state BEGIN
    INSERT INTO state_size VALUES (new.tenant, new.plugin, octet_length(new.key) + octet_length(new.value), 1)
        ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes, keys = keys + 1;
END;
CREATE TRIGGER state_changes AFTER UPDATE OF value ON state BEGIN
    UPDATE state_size SET bytes = bytes + octet_length(new.value) - octet_length(old.value)
        WHERE tenant = new.tenant AND plugin = new.plugin;
END;
CREATE TRIGGER state_goes AFTER DELETE ON state BEGIN
    UPDATE state_size SET bytes = bytes - octet_length(old.key) - octet_length(old.value), keys = keys - 1
        WHERE tenant = old.tenant AND plugin = old.plugin;
    DELETE FROM state_size WHERE tenant = old.tenant AND plugin = old.plugin AND keys = 0;
END;
