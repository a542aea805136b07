"""What changed between two descriptions of a table."""

from fix_sink import column, table

from tailrace_schemas import types as t
from tailrace_schemas.table import TableSchema
from tailrace_sinks.evolution import (
    AddColumn,
    AllowNull,
    Ambiguous,
    ChangeKey,
    DropColumn,
    RenameColumn,
    RetypeColumn,
    differences,
)


def schema(*names: str, engine: str = "postgresql", key: tuple[str, ...] = ("id",)) -> TableSchema:
    return table("t", column("id", nullable=False), *[column(name) for name in names], engine=engine, key=key)


def test_no_difference_is_none() -> None:
    assert differences(schema("a"), schema("a")) == []


def test_added_and_dropped_columns() -> None:
    assert differences(schema("a"), schema("a", "b")) == [AddColumn(column("b"))]
    assert differences(schema("a", "b"), schema("a")) == [DropColumn("b")]


def test_an_added_column_has_the_default_the_marker_gives() -> None:
    assert differences(schema(), schema("b"), None, {"b": "7"}) == [AddColumn(column("b"), "7")]


def test_a_new_name_may_be_a_rename_or_not() -> None:
    assert differences(schema("a", "b"), schema("a", "x")) == Ambiguous(("b",), ("x",))
    assert differences(schema("a", "b"), schema("a", "x"), {"b": "x"}) == [RenameColumn("b", "x")]
    assert differences(schema("a", "b"), schema("a", "x"), {}) == [AddColumn(column("x")), DropColumn("b")]


def test_a_new_type_and_a_lifted_not_null() -> None:
    old = table("t", column("id", nullable=False), column("a", t.INT32, "integer", nullable=False))
    new = table("t", column("id", nullable=False), column("a", t.INT64, "bigint"))
    assert differences(old, new) == [RetypeColumn(old.columns[1], new.columns[1]), AllowNull("a")]


def test_a_column_that_became_not_null_stays_nullable_at_the_target() -> None:
    old = table("t", column("id", nullable=False), column("a"))
    new = table("t", column("id", nullable=False), column("a", nullable=False))
    assert differences(old, new) == []


def test_a_new_key_names_the_renamed_columns() -> None:
    old = schema("a", key=("id", "a"))
    assert differences(old, schema("a")) == [ChangeKey(("id", "a"), ("id",))]
    renamed = differences(old, schema("b", key=("id", "b")), {"a": "b"})
    assert renamed == [RenameColumn("a", "b")]
