-- case D17: =
-- on P M A
-- Tables that appear while capture runs, one with its rows, and one of which nothing more is written.
CREATE TABLE d17 (id int PRIMARY KEY, v int);
INSERT INTO d17 VALUES (1, 1);
-- stream
CREATE TABLE d17_new (id int PRIMARY KEY, v int);
INSERT INTO d17_new VALUES (1, 1);
[P] CREATE TABLE d17_ctas AS SELECT id, v FROM d17;
[P] ALTER TABLE d17_ctas ADD PRIMARY KEY (id);
[MYSQL80 MYSQL9 A] CREATE TABLE d17_ctas (PRIMARY KEY (id)) SELECT id, v FROM d17;
UPDATE d17_new SET v = 2;
-- down
CREATE TABLE d17_late (id int PRIMARY KEY, v int);
INSERT INTO d17_late VALUES (1, 1);
DELETE FROM d17;
