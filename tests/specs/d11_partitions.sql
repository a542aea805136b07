-- case D11 D12: =
-- on P
-- Rows of partitions come under the root's name; one that moves is neither lost nor doubled.
CREATE TABLE d11 (id int, k int, big text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
ALTER TABLE d11 ALTER big SET STORAGE EXTERNAL;
CREATE TABLE d11_one PARTITION OF d11 FOR VALUES IN (1);
CREATE TABLE d11_two PARTITION OF d11 FOR VALUES IN (2);
ALTER TABLE d11_two REPLICA IDENTITY FULL;
INSERT INTO d11 VALUES (1, 1, repeat('x', 9000)), (2, 2, 'y'), (3, 1, 'z');
-- stream
UPDATE d11 SET k = 2 WHERE id = 1;
UPDATE d11 SET k = 1 WHERE id = 2;
CREATE TABLE d11_three PARTITION OF d11 FOR VALUES IN (3);
INSERT INTO d11 VALUES (4, 3, 'new');
UPDATE d11 SET k = 3 WHERE id = 1;
DELETE FROM d11 WHERE id = 3;
