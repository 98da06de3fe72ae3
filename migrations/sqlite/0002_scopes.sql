-- What is opted in, as it was asked for.
CREATE TABLE scopes (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT, -- order of creation
    id         TEXT    NOT NULL UNIQUE,
    spec       TEXT    NOT NULL, -- JSON
    created_ms INTEGER NOT NULL
) STRICT;
