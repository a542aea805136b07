-- case A19: =
-- on P
-- A key stored out of line is taken from the old key, or the change is refused; never another row's.
CREATE TABLE a19 (k text PRIMARY KEY, v int);
ALTER TABLE a19 ALTER k SET STORAGE EXTERNAL;
INSERT INTO a19 VALUES (repeat('k', 2500), 1), (repeat('l', 2500), 1);
-- stream
UPDATE a19 SET v = 2 WHERE k LIKE 'k%';
DELETE FROM a19 WHERE k LIKE 'l%';
