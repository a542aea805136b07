"""What stops a table while its rows are read, in words for its owner."""

from __future__ import annotations

from tailrace_schemas.errors import TABLE_AGAIN, TableStopError
from tailrace_schemas.table import TableId


def inexact_key(table: TableId, column: str) -> TableStopError:
    """NaN, an infinity, an uneven array in a key: consumers tell rows apart by the key record, so it must be there."""
    return TableStopError(
        f'key column "{column}" of {table} has a value that Avro cannot carry',
        code="KEY_VALUE",
        table=table,
        column=column,
        hint=f"correct the rows whose key holds NaN, an infinity or the like; {TABLE_AGAIN}",
    )


def corrupt_row(table: TableId, reason: str) -> TableStopError:
    hint = f"report it; {TABLE_AGAIN}"
    return TableStopError(f"a row of {table} cannot be read", code="ROW_CORRUPT", table=table, detail=reason, hint=hint)
