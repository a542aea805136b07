-- case B1: =
-- on P M A
-- A key change is a delete and a create of one transaction, in this order.
CREATE TABLE b1 (id int PRIMARY KEY, v int);
INSERT INTO b1 VALUES (1, 1), (3, 3);
-> {"op": "r", "after": {"id": 1, "v": 1}}
-> {"op": "r", "after": {"id": 3, "v": 3}}
-- stream
UPDATE b1 SET id = 2 WHERE id = 1;
-> {"op": "d", "key": {"id": 1}, "after": null}
-> {"op": "c", "key": {"id": 2}, "after": {"id": 2, "v": 1}}
BEGIN;
UPDATE b1 SET id = 9 WHERE id = 2;
UPDATE b1 SET id = 2 WHERE id = 3;
UPDATE b1 SET id = 3, v = 7 WHERE id = 9;
COMMIT;
-> {"op": "d", "key": {"id": 2}}
-> {"op": "c", "key": {"id": 9}}
-> {"op": "d", "key": {"id": 3}}
-> {"op": "c", "key": {"id": 2}}
-> {"op": "d", "key": {"id": 9}}
-> {"op": "c", "key": {"id": 3}, "after": {"id": 3, "v": 7}}
