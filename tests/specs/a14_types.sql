-- case A14: =
-- on P
-- Types that only Postgres has.
CREATE TYPE a14_mood AS ENUM ('a', 'b');
CREATE DOMAIN a14_posint AS int CHECK (VALUE > 0);
CREATE TYPE a14_pair AS (x int, y text);
CREATE TABLE a14 (id int PRIMARY KEY, iv interval, ttz timetz, m money, bv bit varying, ip inet, ci cidr, ma macaddr, x xml, jb jsonb, md a14_mood, dm a14_posint, pr a14_pair, r int4range, mr int4multirange, tr tstzrange, by bytea, u uuid, tv tsvector, tq tsquery, lsn pg_lsn, jp jsonpath, pt point, bx box, nm name, ch "char");
INSERT INTO a14 VALUES (1, '1 mon -1 day', '12:00+05:30', '$1.00', B'101', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '<a/>', '{"k":[1,null]}', 'a', 1, '(1,"q""x")', '[1,5)', '{[1,2),[4,6)}', '[2024-01-01 00:00+00,)', '\x00ff', '123e4567-e89b-12d3-a456-426655440000', 'a fat cat', 'fat & cat', '16/B374D848', '$.a[*]', '(1,2)', '(2,2),(1,1)', 'n', 'c');
-- stream
INSERT INTO a14 SELECT 2, iv, ttz, m, bv, ip, ci, ma, x, jb, md, dm, pr, r, mr, tr, by, u, tv, tq, lsn, jp, pt, bx, nm, ch FROM a14;
INSERT INTO a14 (id, iv, r, mr, jb) VALUES (3, '-1 year 2 mons -3 days 04:05:06.000007', 'empty', '{}', 'null');
UPDATE a14 SET md = 'b', mr = '{(,0],[9,)}' WHERE id = 1;
