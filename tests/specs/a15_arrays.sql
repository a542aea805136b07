-- case A15: =
-- on P
-- Arrays of every shape.
CREATE TABLE a15 (id int PRIMARY KEY, a int[], t text[]);
INSERT INTO a15 VALUES (1, '[0:1]={1,2}', '{NULL,"","a,b","{}"}'), (2, '{}', '{{a,b},{c,d}}'), (3, NULL, '{}');
-- stream
INSERT INTO a15 SELECT id + 10, a, t FROM a15;
UPDATE a15 SET a = '{{1,2},{3,NULL}}' WHERE id = 3;
