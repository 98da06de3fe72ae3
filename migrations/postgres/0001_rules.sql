-- Rules as their users wrote them, and what has become of them.
CREATE TABLE rules (
    id         TEXT   NOT NULL PRIMARY KEY,
    seq        BIGINT NOT NULL, -- order of creation
    spec       TEXT   NOT NULL, -- JSON, byte for byte: jsonb would reorder a body's keys
    created_ms BIGINT NOT NULL, -- milliseconds since the epoch, as every *_ms
    updated_ms BIGINT NOT NULL,
    remaining  BIGINT NOT NULL, -- firings left; -1 is no limit
    hits       BIGINT NOT NULL,
    last_hit_ms BIGINT
);
