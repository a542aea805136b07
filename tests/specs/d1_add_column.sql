-- case D1 D2: =
-- on P M A
-- A column added between rows of one session; old rows get its default without an event.
CREATE TABLE d1 (id int PRIMARY KEY, v int);
INSERT INTO d1 VALUES (1, 1), (2, 2);
-- stream
[P] BEGIN;
INSERT INTO d1 VALUES (3, 3);
ALTER TABLE d1 ADD c int NOT NULL DEFAULT 7;
INSERT INTO d1 VALUES (4, 4, 8);
[P] COMMIT;
UPDATE d1 SET v = 9 WHERE id = 2;
-- down
ALTER TABLE d1 ADD d varchar(9) DEFAULT 'it''s';
INSERT INTO d1 VALUES (5, 5, 5, NULL);
DELETE FROM d1 WHERE id = 3;
