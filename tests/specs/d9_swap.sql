-- case D9: =
-- on P
-- Tables exchanged by rename, without a row event afterwards.
CREATE TABLE d9 (id int PRIMARY KEY, v int);
INSERT INTO d9 VALUES (1, 1), (2, 2);
CREATE TABLE d9_two (id int PRIMARY KEY, v int);
INSERT INTO d9_two VALUES (3, 3);
-- down
BEGIN;
ALTER TABLE d9 RENAME TO d9_old;
ALTER TABLE d9_two RENAME TO d9;
COMMIT;
DROP TABLE d9_old;
