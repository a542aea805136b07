"""Which changes of a column's type keep every value, after the manual's rules for each type."""

from __future__ import annotations

import pytest

from tailrace_capture.mysql.widening import keeps_values
from tailrace_schemas.table import Column
from tailrace_schemas.types import LogicalType


def column(native: str, collation: str | None = None, labels: tuple[str, ...] = ()) -> Column:
    return Column("c", LogicalType("enum" if labels else "text", labels=labels), native, True, collation=collation)


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("int", "bigint", True),
        ("int(11)", "bigint(20)", True),
        ("bigint", "int", False),
        ("int unsigned", "bigint", True),
        ("int unsigned", "int", False),
        ("int", "bigint unsigned", False),
        ("varchar(50)", "varchar(80)", True),
        ("varchar(50)", "varchar(10)", False),
        ("varchar(50)", "text", False),
        ("text", "longtext", True),
        ("mediumblob", "blob", False),
        ("decimal(10,2)", "decimal(12,2)", True),
        ("decimal(10,2)", "decimal(12,4)", True),
        ("decimal(10,2)", "decimal(11,4)", False),
        ("decimal(10,2) unsigned", "decimal(10,2)", False),
        ("datetime", "datetime(6)", True),
        ("datetime(6)", "datetime", False),
        ("timestamp", "datetime", False),
        ("float", "double", False),
        ("point", "geometry", False),
    ],
)
def test_a_wider_type_keeps_values(old: str, new: str, kept: bool) -> None:
    assert keeps_values(column(old), column(new)) is kept


def test_another_collation_or_order_of_labels_does_not() -> None:
    assert not keeps_values(column("varchar(9)", "latin1_swedish_ci"), column("varchar(9)", "utf8mb4_bin"))
    assert keeps_values(column("enum", labels=("a",)), column("enum", labels=("a", "b")))
    assert not keeps_values(column("enum", labels=("a", "b")), column("enum", labels=("b", "a")))
