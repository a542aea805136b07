-- case D16: =
-- on P
-- A schema change that is rolled back did not happen.
CREATE TABLE d16 (id int PRIMARY KEY, v int);
INSERT INTO d16 VALUES (1, 1);
-- stream
BEGIN;
ALTER TABLE d16 ADD c int DEFAULT 7;
INSERT INTO d16 VALUES (2, 2, 2);
ROLLBACK;
BEGIN;
INSERT INTO d16 VALUES (3, 3);
SAVEPOINT s;
ALTER TABLE d16 DROP v;
INSERT INTO d16 VALUES (4);
ROLLBACK TO SAVEPOINT s;
INSERT INTO d16 VALUES (5, 5);
COMMIT;
-> {"op": "r", "after": {"id": 1, "v": 1}}
-> {"op": "c", "after": {"id": 3, "v": 3}}
-> {"op": "c", "after": {"id": 5, "v": 5}}
