-- case A5: =
-- on M A
-- The ends of what TIME, YEAR, BIT, SET and DECIMAL can hold.
CREATE TABLE a5 (id int PRIMARY KEY, t time(6), y year, b1 bit(1), b64 bit(64), s set('0','1','2','3','4','5','6','7','8','9','a','b','c','d','e','f','g','h','i','j','k','l','m','n','o','p','q','r','s','t','u','v','w','x','y','z','A0','B0','C0','D0','E0','F0','G0','H0','I0','J0','K0','L0','M0','N0','O0','P0','Q0','R0','S0','T0','U0','V0','W0','X0','Y0','Z0','last0','last1') COLLATE utf8mb4_bin, d decimal(65,30)) CHARSET utf8mb4;
INSERT INTO a5 VALUES (1, '-838:59:59', 0, b'1', ~0, '0,last1', '-12345678901234567890123456789012345.5');
INSERT INTO a5 VALUES (2, '838:59:58.999999', 1901, b'0', 1, '', '99999999999999999999999999999999999.999999999999999999999999999999');
-- stream
INSERT INTO a5 SELECT id + 10, t, y, b1, b64, s, d FROM a5;
INSERT INTO a5 VALUES (3, '-00:00:00.000001', 2155, NULL, NULL, NULL, '0.000000000000000000000000000001');
UPDATE a5 SET s = 'last0', y = 1901 WHERE id = 1;
CREATE TABLE a5_bag (y year, t time(6));
INSERT INTO a5_bag VALUES (0, '-838:59:59'), (2000, '00:00:00'), (0, '838:59:59');
UPDATE a5_bag SET t = '00:00:01' WHERE y = 0 LIMIT 1;
DELETE FROM a5_bag WHERE y = 2000;
