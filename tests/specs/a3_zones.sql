-- case A3 I2: =
-- on M A
-- A timestamp is an instant whatever zone its writer lives in, and whatever time its writer pretends.
CREATE TABLE a3 (id int PRIMARY KEY, ts timestamp(6) NULL, now timestamp(3) NULL);
SET time_zone = '-05:00';
INSERT INTO a3 VALUES (1, '2024-03-31 01:30:00.123456', NULL);
-> {"op": "r", "after": {"id": 1, "ts": "2024-03-31T06:30:00.123456Z", "now": null}}
-- stream
SET time_zone = '+08:00';
INSERT INTO a3 VALUES (2, '2024-03-31 14:30:00.123456', NULL);
-> {"op": "c", "after": {"id": 2, "ts": "2024-03-31T06:30:00.123456Z", "now": null}}
SET timestamp = 1700000000.25;
INSERT INTO a3 VALUES (3, '2038-01-19 11:14:07', now(3));
-> {"op": "c", "after": {"id": 3, "ts": "2038-01-19T03:14:07.000000Z", "now": "2023-11-14T22:13:20.250Z"}}
