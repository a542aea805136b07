"""What stops a table while its rows are read, in words for its owner."""

from __future__ import annotations

from tailrace_schemas.errors import LOAD_AGAIN, TABLE_AGAIN, StopError, TableStopError
from tailrace_schemas.table import TableId

NO_TEXT = ("22021", "22P05")  # SQLSTATE of text that is not of its encoding, or has no equivalent in UTF-8


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


def no_text(table: TableId, reason: str) -> TableStopError:
    hint = f"correct the rows, whose text the server itself cannot give as UTF-8; {TABLE_AGAIN}"
    return TableStopError(f"a row of {table} cannot be read", code="ENCODING", table=table, detail=reason, hint=hint)


def no_text_in_stream(reason: str) -> StopError:
    """The server ends the stream at such a row, whatever its table, and names neither."""
    hint = f"correct the rows at the source, convert the database to UTF8 where it is SQL_ASCII; {LOAD_AGAIN}"
    return StopError("the source cannot give a change as UTF-8", code="ENCODING", detail=reason, hint=hint)
