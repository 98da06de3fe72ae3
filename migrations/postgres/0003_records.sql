-- The newest records of each kind, in the order in which they ended.
CREATE TABLE exchanges (
    seq    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id     TEXT   NOT NULL UNIQUE,
    size   BIGINT NOT NULL, -- bytes of `record`
    record TEXT   NOT NULL  -- JSON
);

CREATE TABLE connections (
    seq    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id     TEXT   NOT NULL UNIQUE,
    size   BIGINT NOT NULL,
    record TEXT   NOT NULL
);

-- The sums of `size`, kept so that an append does not have to add up a table.
CREATE TABLE record_bytes (
    kind  TEXT   NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL
);

INSERT INTO record_bytes (kind, bytes) VALUES ('exchanges', 0), ('connections', 0);
