-- case A12: =
-- on P
-- Numbers at their ends.
CREATE TABLE a12 (id int PRIMARY KEY, n numeric, f8 float8, f4 float4);
INSERT INTO a12 VALUES (1, 'NaN', '-Infinity', 'NaN'), (2, 1e-16383, '-0', 1e-45), (3, repeat('9', 131072)::numeric, 1.7976931348623157e308, 0);
-- stream
INSERT INTO a12 SELECT id + 10, n, f8, f4 FROM a12;
INSERT INTO a12 VALUES (5, 'Infinity', 'NaN', '-Infinity'), (6, '-Infinity', 5e-324, '-0');
UPDATE a12 SET n = 'Infinity' WHERE id = 1;
