-- case A8: =
-- on M A
-- Each column in a character set of its own, and bytes that are no text.
CREATE TABLE a8 (id int PRIMARY KEY, l varchar(9) CHARSET latin1, g varchar(9) CHARSET gbk, u3 varchar(9) CHARSET utf8mb3, u4 varchar(9) CHARSET utf8mb4, b blob);
SET NAMES utf8mb4;
INSERT INTO a8 VALUES (1, 'é', '你好', 'é', '😀é', x'00ff');
-> {"op": "r", "after": {"id": 1, "l": "é", "g": "你好", "u3": "é", "u4": "😀é", "b": "\\x00ff"}}
-- stream
INSERT INTO a8 VALUES (2, 'é€', '好', 'é', '😀', x'c328');
-> {"op": "c", "after": {"id": 2, "l": "é€", "g": "好", "u3": "é", "u4": "😀", "b": "\\xc328"}}
UPDATE a8 SET l = 'ü' WHERE id = 1;
-> {"op": "u", "after": {"id": 1, "l": "ü", "g": "你好", "u3": "é", "u4": "😀é", "b": "\\x00ff"}}
