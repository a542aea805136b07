-- case E10: =
-- on P M A
-- No row, one row, one value in all rows.
CREATE TABLE e10 (id int PRIMARY KEY);
CREATE TABLE e10_one (id int PRIMARY KEY);
CREATE TABLE e10_same (v int, PRIMARY KEY (v, w), w int);
INSERT INTO e10_one VALUES (1);
INSERT INTO e10_same VALUES (7, 1), (7, 2), (7, 3);
-- stream
INSERT INTO e10 VALUES (1);
DELETE FROM e10_one;
