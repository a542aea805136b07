-- case K12: =
-- on P
-- Triggers of the target do not fire for what is applied.
CREATE TABLE k12 (id int PRIMARY KEY, v int);
INSERT INTO k12 VALUES (1, 1);
-- target
CREATE TABLE k12 (id int PRIMARY KEY, v int);
CREATE FUNCTION k12_no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fired'; END $$;
CREATE TRIGGER k12_no BEFORE INSERT OR UPDATE OR DELETE ON k12 FOR EACH ROW EXECUTE FUNCTION k12_no();
-- stream
INSERT INTO k12 VALUES (2, 2);
UPDATE k12 SET v = 3 WHERE id = 1;
DELETE FROM k12 WHERE id = 2;
