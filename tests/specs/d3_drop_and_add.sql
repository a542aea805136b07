-- case D3: =
-- on P M A
-- A column dropped and made again with another type while capture is down.
CREATE TABLE d3 (id int PRIMARY KEY, v int, w int);
INSERT INTO d3 VALUES (1, 1, 1);
-- down
INSERT INTO d3 VALUES (2, 2, 2);
ALTER TABLE d3 DROP COLUMN v;
INSERT INTO d3 VALUES (3, 3);
ALTER TABLE d3 ADD v varchar(9);
INSERT INTO d3 VALUES (4, 4, 'four');
UPDATE d3 SET v = 'two' WHERE id = 2;
