-- What is opted in, as it was asked for.
CREATE TABLE scopes (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of creation
    id         TEXT   NOT NULL UNIQUE,
    spec       TEXT   NOT NULL, -- JSON
    created_ms BIGINT NOT NULL
);
