-- case D5: =
-- on P M A
-- Types widened and changed, with and without a rewrite.
CREATE TABLE d5 (id int PRIMARY KEY, n int, s varchar(50), t varchar(9));
INSERT INTO d5 VALUES (1, 1, 'a', '12'), (2, 2, 'bb', '34');
-- stream
[P] ALTER TABLE d5 ALTER n TYPE bigint;
[M A] ALTER TABLE d5 MODIFY n bigint;
INSERT INTO d5 VALUES (3, 3000000000, 'c', '5');
[P] ALTER TABLE d5 ALTER t TYPE int USING t::int;
[M A] ALTER TABLE d5 MODIFY t int;
INSERT INTO d5 VALUES (4, 4, 'd', 6);
-- down
[P] ALTER TABLE d5 ALTER s TYPE varchar(10);
[M A] ALTER TABLE d5 MODIFY s varchar(10);
[P] ALTER TABLE d5 ALTER n TYPE text;
[M A] ALTER TABLE d5 MODIFY n varchar(40);
UPDATE d5 SET n = 'x' WHERE id = 2;
