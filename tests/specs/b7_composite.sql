-- case B7: =
-- on P M A
-- The order of a key is its own; a key on the beginning of a text is a key of the whole row.
CREATE TABLE b7 (a int, b varchar(9), c int, PRIMARY KEY (c, a));
[M A] CREATE TABLE b7_begin (t text, v int, PRIMARY KEY (t(5)));
[M A] INSERT INTO b7_begin VALUES ('abcdefgh', 1);
-> [M A] {"table": "b7_begin", "op": "r"}
INSERT INTO b7 VALUES (1, 'x', 2), (2, 'y', 1);
-> {"op": "r", "key": {"c": 2, "a": 1}, "after": {"a": 1, "b": "x", "c": 2}}
-> {"op": "r", "key": {"c": 1, "a": 2}, "after": {"a": 2, "b": "y", "c": 1}}
-- stream
UPDATE b7 SET b = 'z' WHERE a = 1;
-> {"op": "u", "key": {"c": 2, "a": 1}, "after": {"a": 1, "b": "z", "c": 2}}
UPDATE b7 SET a = 5 WHERE a = 2;
-> {"op": "d", "key": {"c": 1, "a": 2}}
-> {"op": "c", "key": {"c": 1, "a": 5}}
[M A] INSERT INTO b7_begin VALUES ('abcd', 1);
[M A] UPDATE b7_begin SET v = 2 WHERE t = 'abcd';
[M A] UPDATE b7_begin SET t = 'x' WHERE t = 'abcdefgh';
-> [M A] {"table": "b7_begin", "op": "c"}
-> [M A] {"table": "b7_begin", "op": "u"}
-> [M A] {"table": "b7_begin", "op": "d"}
-> [M A] {"table": "b7_begin", "op": "c"}
