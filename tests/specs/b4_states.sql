-- case B4: =
-- on P M A
-- Of one key the last state wins.
CREATE TABLE b4 (id int PRIMARY KEY, v int);
INSERT INTO b4 VALUES (2, 1), (3, 1);
-- stream
BEGIN;
INSERT INTO b4 VALUES (1, 1);
DELETE FROM b4 WHERE id = 1;
INSERT INTO b4 VALUES (1, 2);
UPDATE b4 SET v = 2 WHERE id = 2;
DELETE FROM b4 WHERE id = 2;
INSERT INTO b4 VALUES (4, 1);
DELETE FROM b4 WHERE id = 4;
COMMIT;
DELETE FROM b4 WHERE id = 3;
INSERT INTO b4 VALUES (3, 5);
UPDATE b4 SET v = 6 WHERE id = 3;
-> {"op": "r", "after": {"id": 2, "v": 1}}
-> {"op": "r", "after": {"id": 3, "v": 1}}
-> {"op": "c", "after": {"id": 1, "v": 1}}
-> {"op": "d", "key": {"id": 1}}
-> {"op": "c", "after": {"id": 1, "v": 2}}
-> {"op": "u", "after": {"id": 2, "v": 2}}
-> {"op": "d", "key": {"id": 2}}
-> {"op": "c", "after": {"id": 4, "v": 1}}
-> {"op": "d", "key": {"id": 4}}
-> {"op": "d", "key": {"id": 3}}
-> {"op": "c", "after": {"id": 3, "v": 5}}
-> {"op": "u", "after": {"id": 3, "v": 6}}
