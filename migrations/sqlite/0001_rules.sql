-- Rules as their users wrote them, and what has become of them.
CREATE TABLE rules (
    id         TEXT    NOT NULL PRIMARY KEY,
    seq        INTEGER NOT NULL, -- order of creation
    spec       TEXT    NOT NULL, -- JSON
    created_ms INTEGER NOT NULL, -- milliseconds since the epoch, as every *_ms
    updated_ms INTEGER NOT NULL,
    remaining  INTEGER NOT NULL, -- firings left; -1 is no limit
    hits       INTEGER NOT NULL,
    last_hit_ms INTEGER
) STRICT;
