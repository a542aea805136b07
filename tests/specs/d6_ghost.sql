-- case D6: =
-- on M A
-- An online schema change by a ghost table, and another one after it.
CREATE TABLE d6 (id int PRIMARY KEY, v int);
INSERT INTO d6 VALUES (1, 1), (2, 2);
-- stream
INSERT INTO d6 VALUES (3, 3);
CREATE TABLE d6_gho LIKE d6;
ALTER TABLE d6_gho ADD c int NOT NULL DEFAULT 7;
INSERT INTO d6_gho (id, v) SELECT id, v FROM d6;
UPDATE d6 SET v = 9 WHERE id = 1;
UPDATE d6_gho SET v = 9 WHERE id = 1;
RENAME TABLE d6 TO d6_del, d6_gho TO d6;
INSERT INTO d6 VALUES (4, 4, 4);
UPDATE d6 SET c = 8 WHERE id = 2;
CREATE TABLE d6_gho LIKE d6;
ALTER TABLE d6_gho DROP v;
INSERT INTO d6_gho SELECT id, c FROM d6;
DROP TABLE d6_del;
RENAME TABLE d6 TO d6_del, d6_gho TO d6;
INSERT INTO d6 VALUES (5, 5);
-- down
INSERT INTO d6 VALUES (6, 6);
CREATE TABLE d6_gho LIKE d6;
ALTER TABLE d6_gho MODIFY c bigint;
INSERT INTO d6_gho SELECT * FROM d6;
DROP TABLE d6_del;
RENAME TABLE d6 TO d6_del, d6_gho TO d6;
DELETE FROM d6 WHERE id = 6;
INSERT INTO d6 VALUES (7, 5000000000);
DROP TABLE d6_del;
