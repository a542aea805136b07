-- case A6: =
-- on M A
-- NULL, and a list that changes while older events are unread: each is read by the list of its own time.
CREATE TABLE a6 (id int PRIMARY KEY, e enum('x','y'));
INSERT INTO a6 VALUES (2, NULL), (3, 'y');
-> {"op": "r", "after": {"id": 2, "e": null}}
-> {"op": "r", "after": {"id": 3, "e": "y"}}
-- down
INSERT INTO a6 VALUES (5, 'x'), (6, 'y');
-> {"op": "c", "after": {"id": 5, "e": "x"}}
-> {"op": "c", "after": {"id": 6, "e": "y"}}
ALTER TABLE a6 MODIFY e enum('w','x','y');
INSERT INTO a6 VALUES (7, 'x'), (8, 'w');
-> {"marker": "reload"}
-> {"op": "r", "after": {"id": 2, "e": null}}
-> {"op": "r", "after": {"id": 3, "e": "y"}}
-> {"op": "r", "after": {"id": 5, "e": "x"}}
-> {"op": "r", "after": {"id": 6, "e": "y"}}
-> {"op": "r", "after": {"id": 7, "e": "x"}}
-> {"op": "r", "after": {"id": 8, "e": "w"}}
