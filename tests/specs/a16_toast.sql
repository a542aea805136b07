-- case A16: =
-- on P
-- A value that was not sent stays as it is at the target.
CREATE TABLE a16 (id int PRIMARY KEY, big text, v int);
ALTER TABLE a16 ALTER big SET STORAGE EXTERNAL;
INSERT INTO a16 VALUES (1, repeat('y', 9000), 1), (2, repeat('z', 9000), 1);
-- stream
UPDATE a16 SET v = 2 WHERE id = 1;
-- caught up
UPDATE a16 SET v = 3, big = NULL WHERE id = 2;
UPDATE a16 SET v = 4;
