"""Stops of a table whose columns the sink may not change by itself: each says what to run."""

from __future__ import annotations

from collections.abc import Callable

from tailrace_schemas.errors import TableStopError
from tailrace_schemas.table import Column, TableId
from tailrace_sinks.evolution import Ambiguous

Quote = Callable[[str], str]


def schema_stop(table: TableId, statements: list[str], detail: str) -> TableStopError:
    return TableStopError(
        f'the source changed table "{table}"',
        code="SCHEMA_CHANGE",
        detail=detail,
        hint="; ".join(statements),
        table=table,
    )


def ambiguous_stop(
    table: TableId, found: Ambiguous, added: list[Column], type_of: Callable[[Column], str], quote: Quote
) -> TableStopError:
    """Columns went and columns came, and nothing tells which became which. `added`: those that came."""
    name = f"{quote(table.schema)}.{quote(table.name)}"
    renames = "; ".join(
        f"ALTER TABLE {name} RENAME COLUMN {quote(a)} TO {quote(b)}"
        for a, b in zip(found.dropped, found.added, strict=False)
    )
    adds = ", ".join(f"ADD COLUMN {quote(column.name)} {type_of(column)}" for column in added)
    return schema_stop(
        table,
        [f"if renamed: {renames}", f"if dropped and added: ALTER TABLE {name} {adds}"],
        f"columns {', '.join(found.dropped)} went and {', '.join(found.added)} came: renamed, or dropped and added?",
    )
