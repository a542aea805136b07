-- case D14: =
-- on MYSQL80 MYSQL9 A
-- Changes that touch no row: instant columns, invisible ones, indexes, character sets.
CREATE TABLE d14 (id int PRIMARY KEY, v int, t varchar(20), KEY old_name (v)) CHARSET latin1;
SET NAMES utf8mb4;
INSERT INTO d14 VALUES (1, 1, 'é');
-- stream
SET NAMES utf8mb4;
ALTER TABLE d14 ADD w int AFTER id, ALGORITHM = INSTANT;
INSERT INTO d14 (id, w, v, t) VALUES (2, 2, 3, 'ü');
[M A] ALTER TABLE d14 RENAME INDEX old_name TO new_name;
[M] ALTER TABLE d14 ADD h int DEFAULT 5 INVISIBLE;
[A] ALTER TABLE d14 ADD h int INVISIBLE DEFAULT 5;
INSERT INTO d14 (id, t) VALUES (3, 'ß');
ALTER TABLE d14 CONVERT TO CHARACTER SET utf8mb4;
INSERT INTO d14 (id, t, h) VALUES (4, '😀', 6);
ALTER TABLE d14 DROP COLUMN v;
UPDATE d14 SET t = 'é2' WHERE id = 1;
