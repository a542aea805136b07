-- case I2 I3: =
-- on P
-- The target's sessions live in another zone and write dates in another way.
CREATE TABLE i3 (id int PRIMARY KEY, ts timestamptz, d date, t timestamp, ttz timetz);
INSERT INTO i3 VALUES (1, '2024-01-01 23:59:59.999999+00', '2024-03-04', '2024-03-04 05:06:07', '12:00:00+00');
-- target
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Tokyo''', current_database()); EXECUTE format('ALTER DATABASE %I SET datestyle = ''SQL, DMY''', current_database()); EXECUTE format('ALTER DATABASE %I SET intervalstyle = ''iso_8601''', current_database()); END $$;
-- stream
INSERT INTO i3 SELECT id + 1, ts, d, t, ttz FROM i3;
UPDATE i3 SET ts = '2024-10-27 01:30:00+00', d = '2024-05-06' WHERE id = 1;
INSERT INTO i3 (id, ts) VALUES (3, '2024-11-03 05:30:00+00'), (4, '2024-11-03 06:30:00+00'), (5, '2024-11-03 01:30:00-04'), (6, '2024-03-10 02:30:00-05');
