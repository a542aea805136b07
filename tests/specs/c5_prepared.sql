-- case C5: =
-- on P
-- Prepared while capture runs, decided while it is down.
CREATE TABLE c5 (id int PRIMARY KEY);
-- stream
@a BEGIN;
@a INSERT INTO c5 VALUES (1);
@a PREPARE TRANSACTION 'c5 one';
@a BEGIN;
@a INSERT INTO c5 VALUES (2);
@a PREPARE TRANSACTION 'c5 two';
@a BEGIN;
@a INSERT INTO c5 VALUES (3);
@a PREPARE TRANSACTION 'c5 three';
-- caught up
COMMIT PREPARED 'c5 three';
-- down
COMMIT PREPARED 'c5 one';
ROLLBACK PREPARED 'c5 two';
-> {"op": "c", "after": {"id": 3}}
-> {"op": "c", "after": {"id": 1}}
