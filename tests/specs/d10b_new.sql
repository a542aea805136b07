-- case D12: =
-- on P
-- A partition made as one, or attached while it is empty, needs no loading again.
CREATE TABLE d10b (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE d10b_one PARTITION OF d10b FOR VALUES IN (1);
INSERT INTO d10b VALUES (1, 1);
-> {"op": "r", "after": {"id": 1, "k": 1}}
-- stream
CREATE TABLE d10b_two PARTITION OF d10b FOR VALUES IN (2);
INSERT INTO d10b VALUES (2, 2);
-- caught up
-- down
BEGIN;
CREATE TABLE d10b_three PARTITION OF d10b FOR VALUES IN (3) PARTITION BY LIST (id);
CREATE TABLE d10b_four PARTITION OF d10b_three DEFAULT;
INSERT INTO d10b VALUES (3, 3);
COMMIT;
CREATE TABLE d10b_five (LIKE d10b INCLUDING ALL);
ALTER TABLE d10b ATTACH PARTITION d10b_five FOR VALUES IN (5);
-> {"op": "c", "after": {"id": 2, "k": 2}}
-> {"op": "c", "after": {"id": 3, "k": 3}}
