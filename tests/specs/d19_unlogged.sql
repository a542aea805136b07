-- case D19: =
-- on P
-- What is not in the log cannot be captured; from SET LOGGED on it is there.
CREATE UNLOGGED TABLE d19 (id int PRIMARY KEY);
INSERT INTO d19 VALUES (1);
CREATE TABLE d19_other (id int PRIMARY KEY);
-- stream
CREATE TEMPORARY TABLE d19_other_temp (id int PRIMARY KEY);
INSERT INTO d19_other_temp VALUES (1);
INSERT INTO d19 VALUES (2);
INSERT INTO d19_other VALUES (1);
-- down
ALTER TABLE d19 SET LOGGED;
INSERT INTO d19 VALUES (3);
