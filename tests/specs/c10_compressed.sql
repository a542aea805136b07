-- case C10: =
-- on MYSQL80 MYSQL9
-- Compressed transactions hold rows like others.
CREATE TABLE c10 (id int PRIMARY KEY, t text);
INSERT INTO c10 VALUES (1, 'a');
-- stream
SET SESSION binlog_transaction_compression = ON;
BEGIN;
INSERT INTO c10 VALUES (2, repeat('x', 5000)), (3, repeat('y', 5000));
UPDATE c10 SET t = repeat('z', 5000) WHERE id = 1;
DELETE FROM c10 WHERE id = 3;
COMMIT;
