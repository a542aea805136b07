-- case A10: =
-- on M A
-- Zero bytes at the end of binary values are not sent by the server, and belong to the value.
CREATE TABLE a10 (id int PRIMARY KEY, b binary(16));
[A] ALTER TABLE a10 ADD u uuid, ADD i inet6;
INSERT INTO a10 (id, b) VALUES (1, x'ab00'), (2, x'');
[A] UPDATE a10 SET u = '123e4567-e89b-12d3-a456-426655440000', i = '::1' WHERE id = 1;
-- stream
INSERT INTO a10 (id, b) VALUES (3, x'00000000000000000000000000000100');
[A] INSERT INTO a10 VALUES (4, x'ff', '00000000-0000-0000-0000-000000000000', '1::');
UPDATE a10 SET b = x'cd00' WHERE id = 2;
