-- case K2: STOP(STATEMENT_DML)
-- on M A
-- One session writes statements instead of rows: its table stops, and is loaded again at the next start.
CREATE TABLE k2 (id int PRIMARY KEY, v int);
INSERT INTO k2 VALUES (1, 1), (2, 2);
-> {"op": "r", "after": {"id": 1, "v": 1}}
-> {"op": "r", "after": {"id": 2, "v": 2}}
-- stream
INSERT INTO k2 VALUES (3, 3);
-> {"op": "c", "after": {"id": 3, "v": 3}}
SET SESSION binlog_format = 'STATEMENT';
UPDATE k2 SET v = 99;
-> {"marker": "stopped", "code": "STATEMENT_DML"}
SET SESSION binlog_format = 'ROW';
INSERT INTO k2 VALUES (4, 4);
-- caught up
-> {"marker": "reload"}
-> {"op": "r", "after": {"id": 1, "v": 99}}
-> {"op": "r", "after": {"id": 2, "v": 99}}
-> {"op": "r", "after": {"id": 3, "v": 99}}
-> {"op": "r", "after": {"id": 4, "v": 4}}
