-- case D15: =
-- on P M A
-- DDL with comments and odd spellings; names that are words of the language.
CREATE TABLE d15 (id int PRIMARY KEY, v int);
INSERT INTO d15 VALUES (1, 1);
-- stream
ALTER /* not d15_x */ TABLE d15 ADD COLUMN x int /* , DROP v */;
INSERT INTO d15 VALUES (2, 2, 2);
[M] /*!50100 ALTER TABLE d15 ADD y int */;
[A] ALTER TABLE IF EXISTS d15 ADD COLUMN IF NOT EXISTS y int;
[P] ALTER TABLE IF EXISTS ONLY d15 ADD COLUMN IF NOT EXISTS y int;
INSERT INTO d15 VALUES (3, 3, 3, 3);
[M A] ALTER TABLE d15 RENAME COLUMN y TO `from`, RENAME COLUMN x TO `a``b "c"`;
[P] ALTER TABLE d15 RENAME COLUMN y TO "from";
INSERT INTO d15 VALUES (4, 4, 4, 4);
[M A] ALTER TABLE/**/d15/* */DROP COLUMN v;
[P] ALTER TABLE/**/d15/* */DROP COLUMN v;
INSERT INTO d15 VALUES (5, 5, 5);
