-- Records come by the thousand each second, and a row for each costs more than the call that it tells of: a row is a page of
-- them now, and the old names are views of the single records.
CREATE TABLE exchange_pages (
    seq     INTEGER NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL, -- bytes of `records`
    records TEXT    NOT NULL  -- JSON array, in the order in which they ended
) STRICT;

CREATE TABLE connection_pages (
    seq     INTEGER NOT NULL PRIMARY KEY,
    size    INTEGER NOT NULL,
    records TEXT    NOT NULL
) STRICT;

INSERT INTO exchange_pages (size, records) SELECT size + 2, '[' || record || ']' FROM exchanges ORDER BY seq;
INSERT INTO connection_pages (size, records) SELECT size + 2, '[' || record || ']' FROM connections ORDER BY seq;

DROP TABLE exchanges;
DROP TABLE connections;

UPDATE record_bytes SET bytes = (SELECT coalesce(sum(size), 0) FROM exchange_pages) WHERE kind = 'exchanges';
UPDATE record_bytes SET bytes = (SELECT coalesce(sum(size), 0) FROM connection_pages) WHERE kind = 'connections';

CREATE VIEW exchanges AS
    SELECT page.seq AS page, record.value ->> 'id' AS id, record.value AS record
    FROM exchange_pages AS page, json_each(page.records) AS record;

CREATE VIEW connections AS
    SELECT page.seq AS page, record.value ->> 'id' AS id, record.value AS record
    FROM connection_pages AS page, json_each(page.records) AS record;
