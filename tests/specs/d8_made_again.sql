-- case D8: =
-- on P M A
-- A table dropped and made again under its name, its events unread.
CREATE TABLE d8 (id int PRIMARY KEY, v int);
INSERT INTO d8 VALUES (1, 1), (2, 2);
CREATE TABLE d8_same (id int PRIMARY KEY, v int);
INSERT INTO d8_same VALUES (1, 1), (2, 2);
-- down
INSERT INTO d8 VALUES (3, 3);
DROP TABLE d8;
CREATE TABLE d8 (id bigint PRIMARY KEY, t varchar(9));
INSERT INTO d8 VALUES (3, 'three'), (4, 'four');
DELETE FROM d8_same WHERE id = 1;
DROP TABLE d8_same;
CREATE TABLE d8_same (id int PRIMARY KEY, v int);
INSERT INTO d8_same VALUES (9, 9);
