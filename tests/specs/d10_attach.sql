-- case D10: =
-- on P
-- Partitions attached with their rows, and truncated: the stream says nothing of either.
CREATE TABLE d10 (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE d10_one PARTITION OF d10 FOR VALUES IN (1);
CREATE TABLE d10_two PARTITION OF d10 FOR VALUES IN (2);
CREATE TABLE d10_three (id int, k int, PRIMARY KEY (id, k));
INSERT INTO d10 VALUES (1, 1), (2, 2), (3, 2);
INSERT INTO d10_three VALUES (4, 3), (5, 3);
-- stream
ALTER TABLE d10 ATTACH PARTITION d10_three FOR VALUES IN (3);
INSERT INTO d10 VALUES (6, 3);
-- caught up
TRUNCATE d10_one;
INSERT INTO d10 VALUES (7, 1);
-- down
BEGIN;
CREATE TABLE d10_four (id int, k int, PRIMARY KEY (id, k));
INSERT INTO d10_four VALUES (8, 4);
ALTER TABLE d10 ATTACH PARTITION d10_four FOR VALUES IN (4);
COMMIT;
