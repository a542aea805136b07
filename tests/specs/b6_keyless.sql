-- case B6: =
-- on P M A
-- Of two equal rows without key one goes, and one stays.
CREATE TABLE b6 (v int, t varchar(9));
[P] ALTER TABLE b6 REPLICA IDENTITY FULL;
INSERT INTO b6 VALUES (1, 'x'), (1, 'x'), (2, NULL), (2, NULL), (2, NULL);
-- stream
[P] DELETE FROM b6 WHERE ctid = (SELECT min(ctid) FROM b6 WHERE v = 1);
[M A] DELETE FROM b6 WHERE v = 1 LIMIT 1;
[P] UPDATE b6 SET t = 'y' WHERE ctid = (SELECT min(ctid) FROM b6 WHERE v = 2);
[M A] UPDATE b6 SET t = 'y' WHERE v = 2 LIMIT 1;
INSERT INTO b6 VALUES (1, 'x'), (NULL, NULL), (NULL, NULL);
