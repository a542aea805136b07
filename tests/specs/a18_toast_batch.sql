-- case A18: =
-- on P
-- A big value and a partial update of its row in one batch become one whole row.
CREATE TABLE a18 (id int PRIMARY KEY, big text, v int);
ALTER TABLE a18 ALTER big SET STORAGE EXTERNAL;
-- stream
INSERT INTO a18 VALUES (1, repeat('y', 9000), 1);
UPDATE a18 SET v = 2;
BEGIN;
INSERT INTO a18 VALUES (2, repeat('z', 9000), 1);
UPDATE a18 SET v = 3 WHERE id = 2;
COMMIT;
-> {"op": "c", "unavailable_columns": null}
-> {"op": "u", "unavailable_columns": ["big"]}
-> {"op": "c", "unavailable_columns": null}
-> {"op": "u", "unavailable_columns": ["big"]}
