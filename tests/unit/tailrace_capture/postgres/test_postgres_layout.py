"""What two looks at the catalogue say of a table's rows; the looks themselves are checked in tests/pipeline."""

from __future__ import annotations

import pytest

from tailrace_capture.postgres.layout import (
    DOUBT,
    PARTITIONS,
    REWRITTEN,
    UNTOLD,
    Evolution,
    Layout,
    detached,
    evolve,
    in_between,
    portable,
)
from tailrace_schemas import types
from tailrace_schemas.table import Column, TableId, TableSchema
from tailrace_schemas.types import LogicalType


def schema(*names: str) -> TableSchema:
    columns = tuple(Column(name, types.INT32, "integer", name != "id") for name in names)
    return TableSchema("postgresql", TableId("public", "a"), columns, ("id",))


def look(columns: str, node: int = 100, missing: dict[str, str | None] | None = None, top: int = 0) -> Layout:
    """`columns`: name:number or name:number:xmin, separated by blanks."""
    found = {}
    for word in columns.split():
        name, number, version = (word + ":700").split(":")[:3]
        found[name] = (int(number), int(version))
    return Layout(frozenset({(9, node)}), found, top or max(n for n, _ in found.values()), missing or {})


ID_X = look("id:1 x:2")


def test_a_rename_is_told_by_the_number() -> None:
    found = evolve(ID_X, look("id:1 y:2:701"), schema("id", "x"), schema("id", "y"))
    assert found == Evolution({"x": "y"})


def test_dropped_and_added_is_not_a_rename() -> None:
    found = evolve(ID_X, look("id:1 y:3"), schema("id", "x"), schema("id", "y"))
    assert found == Evolution()


def test_a_constant_is_told_as_the_default() -> None:
    found = evolve(ID_X, look("id:1 x:2 c:3", missing={"c": "7"}), schema("id", "x"), schema("id", "x", "c"))
    assert found == Evolution(defaults={"c": "7"})


@pytest.mark.parametrize(
    ("now", "after", "why"),
    [
        (look("id:1 x:3"), schema("id", "x"), DOUBT),  # dropped and added under one name
        (look("id:1 x:2 c:4", top=4), schema("id", "x", "c"), DOUBT),  # another c came and went
        (look("id:1 x:2 c:3", node=101), schema("id", "x", "c"), REWRITTEN),  # a volatile default, say
        (look("id:1 x:2:701", node=101), schema("id", "x"), REWRITTEN),  # ALTER TYPE … USING, the same type
        (look("id:1 x:2 c:3", missing={"c": None}), schema("id", "x", "c"), UNTOLD),  # partitions differ
        (look("id:1 x:2 c:3", missing={"c": "NaN"}), schema("id", "x", "c"), UNTOLD),  # no target reads that alike
    ],
)
def test_in_doubt_the_table_is_loaded_again(now: Layout, after: TableSchema, why: str) -> None:
    assert evolve(ID_X, now, schema("id", "x"), after).reload == why


def test_vacuum_full_alone_is_no_doubt() -> None:
    assert evolve(ID_X, look("id:1 x:2", node=101), schema("id", "x"), schema("id", "x")) == Evolution()


def test_what_was_never_looked_at_is_a_doubt_once_columns_come() -> None:
    assert evolve(None, ID_X, schema("id", "x"), schema("id", "x")) == Evolution()
    assert evolve(None, ID_X, schema("id"), schema("id", "x")).reload == DOUBT


def test_in_between_two_changes_the_later_look_explains_the_first() -> None:
    ahead = look("id:1 y:2:701 c:3 d:4", missing={"c": "7"})
    found, layout = in_between(ID_X, ahead, schema("id", "x"), schema("id", "y", "c"))
    assert found == Evolution({"x": "y"}, {"c": "7"})
    assert layout is not None
    assert (layout.columns, layout.top) == ({"id": (1, 700), "y": (2, 700), "c": (3, 700)}, 3)
    assert evolve(layout, ahead, schema("id", "y", "c"), schema("id", "y", "c", "d")) == Evolution()


@pytest.mark.parametrize("ahead", [None, look("id:1 x:2"), look("id:1 x:2 c:3", node=101)])
def test_in_between_a_column_that_nobody_explains_is_a_doubt(ahead: Layout | None) -> None:
    found, _ = in_between(ID_X, ahead, schema("id", "x"), schema("id", "x", "c"))
    assert found.reload == DOUBT


def test_the_text_form_comes_back_the_same() -> None:
    assert Layout.from_text(ID_X.to_text()) == ID_X
    assert Layout.from_text("") is None


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("boolean", "t", "1"),
        ("int32", "-7", "-7"),
        ("number", "1.50", "1.50"),
        ("float64", "Infinity", None),
        ("date", "2026-11-21", "2026-11-21"),
        ("date", "infinity", None),
        ("timestamp", "2026-11-21 10:00:00.5", "2026-11-21 10:00:00.5"),
        ("timestamp", "0044-03-15 00:00:00 BC", None),
        ("string", "it's", "it's"),
        ("timestamp_tz", "2026-11-21 10:00:00+00", None),
        ("json", "{}", None),
    ],
)
def test_only_texts_that_mean_the_same_everywhere_are_told(kind: types.Kind, text: str, told: str | None) -> None:
    assert portable(Column("c", LogicalType(kind), "", True), text) == told


def leaves(*files: tuple[int, int], attached: int = 0) -> Layout:
    return Layout(frozenset(files), ID_X.columns, 2, {}, True, frozenset({attached}))


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (leaves((1, 10), (2, 20), (3, 30)), ""),  # made as a partition, whose rows the stream tells
        (leaves((1, 10), (2, 20), (3, 30), attached=3), PARTITIONS),
        (leaves((1, 10), (2, 20), attached=2), ""),  # known before
        (leaves((1, 10), (2, 21)), PARTITIONS),  # TRUNCATE of one
        (leaves((1, 10)), ""),  # detached: its rows stay
    ],
)
def test_partitions_whose_rows_come_or_go_without_events_load_the_table_again(now: Layout, why: str) -> None:
    old = leaves((1, 10), (2, 20))
    assert evolve(old, now, schema("id", "x"), schema("id", "x")).reload == why
    assert detached(old, now) == (len(now.files) == 1)
