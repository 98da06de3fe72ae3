-- The newest records of each kind, in the order in which they ended. `size` stands before `record`, so that
-- trimming reads no record.
CREATE TABLE exchanges (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT    NOT NULL UNIQUE,
    size   INTEGER NOT NULL, -- bytes of `record`
    record TEXT    NOT NULL  -- JSON
) STRICT;

CREATE TABLE connections (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT    NOT NULL UNIQUE,
    size   INTEGER NOT NULL,
    record TEXT    NOT NULL
) STRICT;

-- The sums of `size`, kept so that an append does not have to add up a table.
CREATE TABLE record_bytes (
    kind  TEXT    NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT;

INSERT INTO record_bytes (kind, bytes) VALUES ('exchanges', 0), ('connections', 0);
