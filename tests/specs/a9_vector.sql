-- case A9: =
-- on MYSQL9 MARIADB118
-- Vectors are arrays of single floats.
CREATE TABLE a9 (id int PRIMARY KEY, v vector(3));
[M] INSERT INTO a9 VALUES (1, string_to_vector('[1,2.5,-0.125]')), (2, NULL);
[A] INSERT INTO a9 VALUES (1, vec_fromtext('[1,2.5,-0.125]')), (2, NULL);
-> {"op": "r", "after": {"id": 1, "v": [1.0, 2.5, -0.125]}}
-> {"op": "r", "after": {"id": 2, "v": null}}
-- stream
[M] UPDATE a9 SET v = string_to_vector('[0,1e10,3]') WHERE id = 2;
[A] UPDATE a9 SET v = vec_fromtext('[0,1e10,3]') WHERE id = 2;
-> {"op": "u", "after": {"id": 2, "v": [0.0, 10000000000.0, 3.0]}}
