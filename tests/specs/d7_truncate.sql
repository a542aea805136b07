-- case D7: =
-- on P M A
-- A truncate stands at its place.
CREATE TABLE d7 (id int PRIMARY KEY);
CREATE TABLE d7_other (id int PRIMARY KEY);
[P] CREATE TABLE d7_child (id int PRIMARY KEY REFERENCES d7);
INSERT INTO d7 VALUES (1), (2);
INSERT INTO d7_other VALUES (1), (2);
[P] INSERT INTO d7_child VALUES (1);
-- stream
INSERT INTO d7 VALUES (3);
[P] TRUNCATE d7, d7_other RESTART IDENTITY CASCADE;
[M A] TRUNCATE d7;
[M A] TRUNCATE TABLE d7_other;
INSERT INTO d7 VALUES (1), (4);
[P] INSERT INTO d7_child VALUES (4);
[P] BEGIN;
[P] INSERT INTO d7_other VALUES (8);
[P] TRUNCATE d7_other;
[P] INSERT INTO d7_other VALUES (9);
[P] COMMIT;
-- down
INSERT INTO d7_other VALUES (10);
TRUNCATE TABLE d7_other;
INSERT INTO d7_other VALUES (1), (2);
