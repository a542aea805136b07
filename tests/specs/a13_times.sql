-- case A13: =
-- on P
-- The ends of the calendar, and beyond.
CREATE TABLE a13 (id int PRIMARY KEY, ts timestamptz, t timestamp, d date);
INSERT INTO a13 VALUES (1, 'infinity', '-infinity', 'infinity'), (2, '4713-01-01 00:00:00+00 BC', '4713-01-01 BC', '4713-01-01 BC'), (3, '294276-12-31 23:59:59.999999+00', '294276-12-31 23:59:59.999999', '5874897-12-31');
-- stream
INSERT INTO a13 SELECT id + 10, ts, t, d FROM a13;
UPDATE a13 SET ts = '-infinity', d = '-infinity' WHERE id = 2;
