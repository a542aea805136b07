-- case C1 C2: =
-- on P M A
-- What was rolled back did not happen.
CREATE TABLE c1 (id int PRIMARY KEY);
-- stream
BEGIN;
INSERT INTO c1 VALUES (1);
ROLLBACK;
BEGIN;
INSERT INTO c1 VALUES (2);
SAVEPOINT s1;
INSERT INTO c1 VALUES (3);
SAVEPOINT s2;
INSERT INTO c1 VALUES (4);
ROLLBACK TO SAVEPOINT s1;
INSERT INTO c1 VALUES (5);
COMMIT;
-> {"op": "c", "after": {"id": 2}}
-> {"op": "c", "after": {"id": 5}}
