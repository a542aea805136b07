-- case D4: =
-- on P MYSQL80 MYSQL9 A
-- Values never shift to a neighbour.
CREATE TABLE d4 (id int PRIMARY KEY, a int, b int, c int);
INSERT INTO d4 VALUES (1, 10, 20, 30);
-- stream
INSERT INTO d4 VALUES (2, 11, 21, 31);
ALTER TABLE d4 RENAME COLUMN a TO x;
INSERT INTO d4 (id, x, b, c) VALUES (3, 12, 22, 32);
[M A] ALTER TABLE d4 MODIFY c int AFTER id;
INSERT INTO d4 (id, x, b, c) VALUES (4, 13, 23, 33);
ALTER TABLE d4 DROP COLUMN b;
INSERT INTO d4 (id, x, c) VALUES (5, 14, 34);
-- down
ALTER TABLE d4 RENAME COLUMN c TO b;
INSERT INTO d4 (id, x, b) VALUES (6, 15, 35);
UPDATE d4 SET x = x + 100;
