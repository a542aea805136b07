-- case A22: =
-- on P M A
-- NULL, empty text and a default are three things.
CREATE TABLE a22 (id int PRIMARY KEY, t varchar(9) DEFAULT 'd', n int DEFAULT 7);
INSERT INTO a22 VALUES (1, '', NULL), (2, NULL, 0);
-> {"op": "r", "after": {"id": 1, "t": "", "n": null}}
-> {"op": "r", "after": {"id": 2, "t": null, "n": 0}}
-- stream
INSERT INTO a22 (id) VALUES (3);
-> {"op": "c", "after": {"id": 3, "t": "d", "n": 7}}
INSERT INTO a22 VALUES (4, NULL, NULL);
-> {"op": "c", "after": {"id": 4, "t": null, "n": null}}
UPDATE a22 SET t = NULL, n = NULL WHERE id = 3;
-> {"op": "u", "after": {"id": 3, "t": null, "n": null}}
UPDATE a22 SET t = '' WHERE id = 4;
-> {"op": "u", "after": {"id": 4, "t": "", "n": null}}
