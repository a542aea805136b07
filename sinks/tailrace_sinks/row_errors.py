"""What stops a sink at rows it was given, whatever the target; what the target itself refuses is in `*_errors.py`."""

from __future__ import annotations

from tailrace_schemas.errors import LOAD_AGAIN, DecodeError, StopError
from tailrace_schemas.table import TableId, TableSchema


def unreadable(error: Exception) -> StopError:
    """Not even the schema of the records can be told."""
    return StopError("records of the log cannot be read", code="DECODE", detail=str(error), hint=LOAD_AGAIN)


def decode_error(schema: TableSchema, error: Exception) -> DecodeError:
    return DecodeError(
        f'an event of "{schema.table}" cannot be read',
        detail=str(error) if isinstance(error, ValueError) else "it is torn or not of the schema it names",
        hint=f"the log is damaged or was written by something else: {LOAD_AGAIN}",
        table=schema.table,
    )


def row_missing(target: TableId, verb: str, count: int) -> StopError:
    return StopError(
        f'{count} rows to {verb} are not in the target table "{target}"',
        code="ROW_MISSING",
        detail="something else has deleted or changed them there",
        hint=f"put the rows back as they were, then start again; or {LOAD_AGAIN}",
        table=target,
    )


def no_before_image(schema: TableSchema) -> StopError:
    """Events that are in the log already stay without it, so the statement alone is not enough."""
    table = f'"{schema.table.schema}"."{schema.table.name}"'
    postgres = schema.engine == "postgresql"
    statement = f"ALTER TABLE {table} REPLICA IDENTITY FULL" if postgres else "SET GLOBAL binlog_row_image = FULL"
    return StopError(
        f'"{schema.table}" has no key and its events carry no old row',
        code="NO_BEFORE_IMAGE",
        hint=f"at the source: {statement}; {LOAD_AGAIN}",
        table=schema.table,
    )
