-- case B15: =
-- on P M A
-- What a deleted or changed parent does to its children, which the binlog leaves out.
CREATE TABLE b15 (id int PRIMARY KEY);
CREATE TABLE b15_gone (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES b15 (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE b15_null (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES b15 (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE b15_deep (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES b15_gone (id) ON DELETE CASCADE);
INSERT INTO b15 VALUES (1), (2), (3);
INSERT INTO b15_gone VALUES (11, 1), (12, 1), (13, 2), (14, 3);
INSERT INTO b15_null VALUES (21, 1), (22, 2), (23, 3);
INSERT INTO b15_deep VALUES (31, 11), (32, 13), (33, 14);
-- stream
DELETE FROM b15 WHERE id = 1;
UPDATE b15 SET id = 9 WHERE id = 2;
BEGIN;
INSERT INTO b15_gone VALUES (15, 3);
INSERT INTO b15_deep VALUES (34, 15);
DELETE FROM b15 WHERE id = 3;
INSERT INTO b15 VALUES (3);
INSERT INTO b15_gone VALUES (14, 3);
COMMIT;
