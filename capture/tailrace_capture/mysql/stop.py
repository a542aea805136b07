"""Errors that stop one table, each with what to do about it."""

from __future__ import annotations

from tailrace_capture.mysql import images
from tailrace_schemas.errors import TableStopError
from tailrace_schemas.table import TableId


def statement_error(table: TableId) -> TableStopError:
    return TableStopError(
        f"{table} was changed in statement format, so its rows are not in the binary log",
        code="STATEMENT_DML",
        table=table,
        hint="SET GLOBAL binlog_format = ROW, let no session set another, then reload the table",
    )


def stop_error(error: Exception, table: TableId) -> TableStopError:
    if isinstance(error, images.PartialImageError):
        return TableStopError(
            f"a change of {table} does not carry all columns",
            code="PARTIAL_IMAGE",
            table=table,
            hint="SET GLOBAL binlog_row_image = FULL, let no session set another, then reload the table",
        )
    if isinstance(error, images.InexactKeyError):
        return TableStopError(
            f'key column "{error}" of {table} has a value that is no date',
            code="ZERO_DATE",
            table=table,
            column=str(error),
            hint="correct the rows whose key holds a zero or partial date, then reload the table",
        )
    return TableStopError(f"a row of {table} cannot be read", code="ROW_CORRUPT", table=table, detail=str(error))
