-- case A4: =
-- on M A
-- A datetime has no zone: microseconds since 1970 of what the clock on the wall showed.
CREATE TABLE a4 (id int PRIMARY KEY, d datetime(6));
INSERT INTO a4 VALUES (1, '2017-03-12 02:30:00'), (2, '1950-01-01 01:00:00.999999');
-> {"op": "r", "after": {"id": 1, "d": 1489285800000000}}
-> {"op": "r", "after": {"id": 2, "d": -631148399000001}}
-- stream
INSERT INTO a4 VALUES (3, '2017-03-12 02:30:00'), (4, '1950-01-01 01:00:00.999999');
-> {"op": "c", "after": {"id": 3, "d": 1489285800000000}}
-> {"op": "c", "after": {"id": 4, "d": -631148399000001}}
