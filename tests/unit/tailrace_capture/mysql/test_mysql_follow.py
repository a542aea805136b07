"""What is certain of a table's columns from the words of an ALTER, and from a table map that names none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace_capture.mysql import ddl, follow, plan
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.ahead import concerns
from tailrace_capture.mysql.native import Charsets, Collation, logical_type
from tailrace_schemas.errors import TableStopError
from tailrace_schemas.table import Column, TableId, TableSchema

A = TableId("d", "a")


def column(name: str, native: str = "int", collation: str | None = None, nullable: bool = True) -> Column:
    type_ = logical_type(native)
    assert type_ is not None
    return Column(name, type_, native, nullable, False, collation)


def schema(*names: str) -> TableSchema:
    return TableSchema("mysql", A, tuple(column(name) for name in names), ("id",), (("u",),), ())


@pytest.mark.parametrize(
    ("was", "statement", "is_"),
    [
        ("id u v", "ALTER TABLE a DROP v", "id u"),
        ("id u v w", "alter table `d`.`a` drop column V, DROP COLUMN `w`, ALGORITHM=INPLACE, LOCK=NONE", "id u"),
        ("id u v", "ALTER TABLE a RENAME COLUMN v TO w", "id u w"),
        ("id u v", "ALTER TABLE a RENAME COLUMN id TO key_of_it", "key_of_it u v"),
        ("id u v", "ALTER TABLE a ADD INDEX i (v), ADD KEY (u), COMMENT='ADD x', AUTO_INCREMENT = 7", "id u v"),
        ("id u v", "ALTER TABLE a ALTER COLUMN v SET DEFAULT 5", "id u v"),
        ("id u v", "/* ADD x */ ALTER TABLE a DROP FOREIGN KEY f", "id u v"),
    ],
)
def test_columns_behind_a_statement_that_leaves_or_drops_or_renames_them(was: str, statement: str, is_: str) -> None:
    now = follow.after(schema(*was.split()), statement)
    assert now is not None
    assert [c.name for c in now.columns] == is_.split()
    assert now.key == (now.columns[0].name,)


@pytest.mark.parametrize(
    ("is_", "statement", "was"),
    [
        ("id u v", "ALTER TABLE a ADD v bigint unsigned", "id u"),
        (
            "v id w u",
            "ALTER TABLE a ADD COLUMN v decimal(5,2) DEFAULT 1.5 FIRST, ADD w enum('a,b',')') AFTER id",
            "id u",
        ),
        ("id u v w", "ALTER TABLE a ADD (v int, w enum('x','y'))", "id u"),
        ("id u w", "ALTER TABLE a RENAME COLUMN v TO w", "id u v"),
        ("id u v", "ALTER ONLINE TABLE a ADD INDEX (v)", "id u v"),
    ],
)
def test_columns_before_a_statement_that_adds_or_renames_them(is_: str, statement: str, was: str) -> None:
    before = follow.before(schema(*is_.split()), statement)
    assert before is not None
    assert [c.name for c in before.columns] == was.split()


UNCERTAIN = (
    "MODIFY v bigint", "CHANGE v w int", "CONVERT TO CHARACTER SET utf8mb4", "DROP PRIMARY KEY", "ADD PRIMARY KEY (v)",
    "ADD UNIQUE (v)", "DROP INDEX i", "ADD v int UNIQUE", "ADD v int PRIMARY KEY", "ADD COLUMN IF NOT EXISTS v int",
    "DROP COLUMN IF EXISTS v", "DROP COLUMN u", "DROP COLUMN id", "DROP COLUMN nobody", "RENAME COLUMN nobody TO x",
    "RENAME COLUMN v TO w, RENAME COLUMN w TO v", "ADD CONSTRAINT c UNIQUE (v)", "FORCE", "RENAME COLUMN u TO x", "",
    "PARTITION BY HASH (id)", "WAIT 5 ADD v int", "DEFAULT CHARACTER SET latin1", "FROBNICATE", "ADD", "DROP",
)  # fmt: skip


@pytest.mark.parametrize("act", UNCERTAIN)
def test_what_follows_rules_of_the_server_is_not_followed(act: str) -> None:
    for table in (schema("id", "u", "v", "w"), schema("id", "u", "w")):
        assert follow.after(table, f"ALTER TABLE a {act}") is None
    assert follow.before(schema("id", "u", "v", "w"), f"ALTER TABLE a {act}") is None


@pytest.mark.parametrize("text", ["SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE a ADD v int", "DROP TABLE a", ""])
def test_other_statements_are_not_followed(text: str) -> None:
    assert follow.before(schema("id", "u", "v"), text) is None
    assert follow.after(schema("id", "u", "v"), text) is None


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("ALTER TABLE A ADD x int", True),
        ("ALTER TABLE `D`.a ADD x int", True),
        ("ALTER TABLE d.ab ADD x int", False),
        ("CREATE OR REPLACE TABLE a (i int)", True),
        ("CREATE TABLE IF NOT EXISTS a (i int)", True),
        ("RENAME TABLE x TO y, y TO a", True),
        ("DROP DATABASE d", True),
        ("DROP TABLES x, a", True),
        ("ALTER TABLE a TRUNCATE PARTITION p", True),
        ("TRUNCATE a", False),
        ("CREATE INDEX i ON a (x)", False),
        ("CALL p()", True),
    ],
)
def test_statements_behind_which_rows_may_be_laid_out_otherwise(text: str, does: bool) -> None:
    assert concerns(ddl.parse_statement(text, "d"), A) is does


# --- table maps without names

CHARSETS = Charsets(
    {
        8: Collation("latin1_swedish_ci", "latin1", 1),
        45: Collation("utf8mb4_general_ci", "utf8mb4", 4),
        63: Collation("binary", "binary", 1),
    }
)
ROWS = TableSchema(
    "mysql",
    A,
    (
        column("id", "int unsigned", nullable=False),
        column("l", "varchar(9)", "latin1_swedish_ci"),
        column("e", "enum('x','y')", "utf8mb4_general_ci"),
    ),
    ("id",),
    (),
    (),
)


def bare(kind: int, size: int = 0, nullable: bool = True, collation: int = 0) -> tm.MapColumn:
    return tm.MapColumn("", kind, size, 0, 0, nullable, False, collation, (), "")


ID, TEXT, ENUM = bare(tm.T_LONG, nullable=False), bare(tm.T_VARCHAR, 9), bare(tm.T_ENUM, 1)


def layout(*columns: tm.MapColumn) -> tm.TableMap:
    return tm.TableMap(A, columns, (), named=False, signed=False)


def test_a_description_completes_a_table_map() -> None:
    done = plan.completed(layout(ID, TEXT, ENUM), ROWS, CHARSETS)
    assert [c.name for c in done.columns] == ["id", "l", "e"]
    assert [c.unsigned for c in done.columns] == [True, False, False]
    assert done.columns[1].collation == 8
    assert done.columns[2].labels == (b"x", b"y")
    assert plan.differences(ROWS, done, CHARSETS) == []


@pytest.mark.parametrize(
    "wrong",
    [
        layout(ID, TEXT),
        layout(replace(ID, type=tm.T_LONGLONG), TEXT, ENUM),
        layout(replace(ID, nullable=True), TEXT, ENUM),
        layout(ID, replace(TEXT, size=36), ENUM),
        layout(ID, replace(TEXT, collation=45, size=36), ENUM),  # MINIMAL tells character sets
        layout(ID, TEXT, replace(ENUM, size=2)),
        layout(ID, TEXT, replace(ENUM, type=tm.T_SET)),
        replace(layout(ID, TEXT, ENUM), signed=True),  # MINIMAL tells signs: `id` is signed there
    ],
)
def test_a_table_map_that_contradicts_the_description_is_not_read_by_it(wrong: tm.TableMap) -> None:
    with pytest.raises(TableStopError) as refused:
        plan.completed(wrong, ROWS, CHARSETS)
    assert refused.value.code == "SCHEMA_UNKNOWN"


def test_labels_that_the_catalogue_may_not_show_are_not_taken_from_it() -> None:
    hidden = replace(ROWS, columns=(*ROWS.columns[:2], column("e", "enum('?','y')", "utf8mb4_general_ci")))
    with pytest.raises(TableStopError) as refused:
        plan.completed(layout(ID, TEXT, ENUM), hidden, CHARSETS)
    assert refused.value.code == "SCHEMA_UNKNOWN"
    shown = replace(ROWS, columns=(*ROWS.columns[:2], column("e", "enum('?','y')", "latin1_swedish_ci")))
    assert plan.completed(layout(ID, TEXT, ENUM), shown, CHARSETS).columns[2].labels == (b"?", b"y")
