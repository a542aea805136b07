-- case A1: =
-- on M A
-- Keys on both sides of 2^63, loaded and streamed, are unsigned.
CREATE TABLE a1 (id bigint unsigned PRIMARY KEY, v int);
INSERT INTO a1 VALUES (5, 1), (9223372036854775807, 1), (9223372036854775808, 1), (18446744073709551615, 1);
-> {"op": "r", "after": {"id": "5", "v": 1}}
-> {"op": "r", "after": {"id": "9223372036854775807", "v": 1}}
-> {"op": "r", "after": {"id": "9223372036854775808", "v": 1}}
-> {"op": "r", "after": {"id": "18446744073709551615", "v": 1}}
-- stream
INSERT INTO a1 VALUES (18446744073709551614, 2);
-> {"op": "c", "after": {"id": "18446744073709551614", "v": 2}}
UPDATE a1 SET v = 3 WHERE id = 18446744073709551615;
-> {"op": "u", "before": {"id": "18446744073709551615", "v": 1}, "after": {"id": "18446744073709551615", "v": 3}}
DELETE FROM a1 WHERE id = 9223372036854775808;
-> {"op": "d", "key": {"id": "9223372036854775808"}, "after": null}
