-- case A11: =
-- on M A
-- Geometry keeps its SRID; what the source computes arrives as it is there; invisible columns are columns.
CREATE TABLE a11 (id int PRIMARY KEY, g geometry, gs int AS (id * 2) STORED, gv int AS (id * 3) VIRTUAL);
[MYSQL57] ALTER TABLE a11 ADD hidden int DEFAULT 4;
[MYSQL80 MYSQL9] ALTER TABLE a11 ADD hidden int DEFAULT 4 INVISIBLE;
[A] ALTER TABLE a11 ADD hidden int INVISIBLE DEFAULT 4;
INSERT INTO a11 (id, g) VALUES (1, ST_GeomFromText('POINT(1 2)', 4326)), (2, NULL);
-- stream
INSERT INTO a11 (id, g, hidden) VALUES (3, ST_GeomFromText('LINESTRING(0 0,1 1)'), 5);
UPDATE a11 SET id = 7 WHERE id = 1;
