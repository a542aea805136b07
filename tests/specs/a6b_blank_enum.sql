-- case A6: =
-- on M A
-- Index 0, which no label names: written past strict mode, and every way of a row to the target keeps it.
SET SESSION sql_mode = '';
CREATE TABLE a6b (id int PRIMARY KEY, e enum('x','it''s') NOT NULL, v int);
CREATE TABLE a6b_two_keys (id int PRIMARY KEY, e enum('x','y'), u int UNIQUE);
CREATE TABLE a6b_keyless (e enum('x','y'), v int);
INSERT INTO a6b VALUES (1, 'q', 1), (2, 'it''s', 1);
INSERT INTO a6b_two_keys VALUES (1, 'q', 1), (2, 'x', 2), (3, NULL, 3);
INSERT INTO a6b_keyless VALUES ('q', 1), ('x', 1), (NULL, 1);
-- stream
SET SESSION sql_mode = '';
INSERT INTO a6b VALUES (3, 'q', 1), (4, 'x', 1), (5, 'x', 1);
UPDATE a6b SET v = 2 WHERE id = 1;
UPDATE a6b SET e = 'q' WHERE id = 5;
UPDATE a6b SET e = 'x' WHERE id = 3;
UPDATE a6b_two_keys SET u = u + 10, e = 'q';
INSERT INTO a6b_two_keys VALUES (4, 'q', 1), (5, 'y', 2);
DELETE FROM a6b_two_keys WHERE id = 1;
UPDATE a6b_keyless SET v = 2 WHERE e = 0;
UPDATE a6b_keyless SET e = 'q' WHERE e = 'x';
INSERT INTO a6b_keyless VALUES ('q', 7);
DELETE FROM a6b_keyless WHERE e = 0 AND v = 1;
