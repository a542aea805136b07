-- case B8: =
-- on P M A
-- A unique index over a column that may be NULL identifies nothing.
CREATE TABLE b8 (u int UNIQUE, v int);
[P] ALTER TABLE b8 REPLICA IDENTITY FULL;
INSERT INTO b8 VALUES (NULL, 1), (NULL, 1), (1, 1);
-> {"marker": "reload"}
-> {"op": "r", "key": null, "after": {"u": null, "v": 1}}
-> {"op": "r", "key": null, "after": {"u": null, "v": 1}}
-> {"op": "r", "key": null, "after": {"u": 1, "v": 1}}
-- stream
[P] UPDATE b8 SET v = 2 WHERE ctid = (SELECT min(ctid) FROM b8 WHERE u IS NULL);
[M A] UPDATE b8 SET v = 2 WHERE u IS NULL LIMIT 1;
-> {"op": "u", "key": null, "after": {"u": null, "v": 2}}
UPDATE b8 SET u = 3 WHERE u = 1;
-> {"op": "u", "key": null, "after": {"u": 3, "v": 1}}
