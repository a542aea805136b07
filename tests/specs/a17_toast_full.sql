-- case A17: =
-- on P
-- With full replica identity the value stands in the old row, and without it NULL keys are no values.
CREATE TABLE a17 (id int PRIMARY KEY, big text, v int);
ALTER TABLE a17 ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
INSERT INTO a17 VALUES (1, repeat('y', 9000), 1);
-- stream
UPDATE a17 SET v = 2;
-- caught up
ALTER TABLE a17 REPLICA IDENTITY DEFAULT;
UPDATE a17 SET v = 3;
UPDATE a17 SET id = 2;
DELETE FROM a17 WHERE id = 2;
INSERT INTO a17 VALUES (3, repeat('x', 9000), 1);
