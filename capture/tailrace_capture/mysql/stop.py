"""Errors that stop one table, each with what to do about it."""

from __future__ import annotations

from tailrace_capture.mysql import images
from tailrace_schemas.errors import TABLE_AGAIN, TableStopError
from tailrace_schemas.table import TableId


def statement_error(table: TableId) -> TableStopError:
    return TableStopError(
        f"{table} was changed in statement format, so its rows are not in the binary log",
        code="STATEMENT_DML",
        table=table,
        hint=f"SET GLOBAL binlog_format = ROW, let no session set another; {TABLE_AGAIN}",
    )


def stop_error(error: Exception, table: TableId) -> TableStopError:
    if isinstance(error, images.PartialImageError):
        return TableStopError(
            f"a change of {table} does not carry all columns",
            code="PARTIAL_IMAGE",
            table=table,
            hint=f"SET GLOBAL binlog_row_image = FULL, let no session set another; {TABLE_AGAIN}",
        )
    if isinstance(error, images.InexactKeyError):
        return TableStopError(
            f'key column "{error}" of {table} has a value that is no date',
            code="ZERO_DATE",
            table=table,
            column=str(error),
            hint=f"correct the rows whose key holds a zero or partial date; {TABLE_AGAIN}",
        )
    hint = f"check the binary log with mysqlbinlog --verify-binlog-checksum; {TABLE_AGAIN}"
    return TableStopError(
        f"a row of {table} cannot be read", code="ROW_CORRUPT", table=table, detail=str(error), hint=hint
    )
