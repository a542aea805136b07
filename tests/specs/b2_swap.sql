-- case B2: =
-- on P M A
-- Unique values change places in one transaction; the target has the unique key too.
CREATE TABLE b2 (id int PRIMARY KEY, email varchar(50) UNIQUE);
INSERT INTO b2 VALUES (1, 'x'), (2, 'y'), (3, 'z');
-- target
CREATE TABLE b2 (id int PRIMARY KEY, email varchar(50) UNIQUE);
-- stream
BEGIN;
UPDATE b2 SET email = 'tmp' WHERE id = 1;
UPDATE b2 SET email = 'x' WHERE id = 2;
UPDATE b2 SET email = 'y' WHERE id = 1;
COMMIT;
BEGIN;
DELETE FROM b2 WHERE id = 1;
INSERT INTO b2 VALUES (4, 'y');
UPDATE b2 SET email = 'w' WHERE id = 3;
INSERT INTO b2 VALUES (1, 'z');
COMMIT;
UPDATE b2 SET email = NULL WHERE id = 2;
INSERT INTO b2 VALUES (5, 'x');
