-- case B12: =
-- on P M A
-- Parents and children in one transaction, of tables with a foreign key at the target too.
CREATE TABLE b12_z (id int PRIMARY KEY, v int);
CREATE TABLE b12_a (id int PRIMARY KEY, z int, FOREIGN KEY (z) REFERENCES b12_z (id));
INSERT INTO b12_z VALUES (1, 1);
INSERT INTO b12_a VALUES (1, 1);
-- target
CREATE TABLE b12_z (id int PRIMARY KEY, v int);
CREATE TABLE b12_a (id int PRIMARY KEY, z int, FOREIGN KEY (z) REFERENCES b12_z (id));
-- stream
BEGIN;
INSERT INTO b12_z VALUES (2, 2);
INSERT INTO b12_a VALUES (2, 2);
UPDATE b12_a SET z = 2 WHERE id = 1;
DELETE FROM b12_z WHERE id = 1;
COMMIT;
