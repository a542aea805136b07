"""What a MySQL or MariaDB error means for a sink: wait, set the row aside, or stop. Decided by number, never by value.

Sources: MySQL 8.0 "Server Error Message Reference"; MariaDB "Error Codes".
"""

from __future__ import annotations

import re

import pymysql

from tailrace_schemas.errors import (
    RowRejectedError,
    StopError,
    TailraceError,
    TargetUnavailableError,
)
from tailrace_schemas.refused import mysql_refusal
from tailrace_schemas.table import TableId

LOST = frozenset({0, 1053, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031})
_PASSING: dict[int, str] = {
    1021: "the target's disk is full: free space; the sink goes on by itself",
    1040: "the target has no free connection: raise max_connections or end other sessions",
    1114: "the target's table space is full",
    1203: "raise max_user_connections of the sink's user",
    1205: "another session holds a lock on the row",
    1213: "",
    1290: "the target runs with --read-only: point the URL at the primary, or wait for its promotion",
    1317: "",
    1637: "",
    1792: "the target's transactions are read-only by default",
    1836: "the target is read-only: point the URL at the primary",
    1969: "max_statement_time at the target is too short for the sink",
    3024: "max_execution_time at the target is too short for the sink",
    3101: "the target's group replication rolled the transaction back",
}
_REJECTED: dict[int, str] = {
    1048: "null in a NOT NULL column",
    1062: "another row has the same unique value",
    1264: "value is out of range",
    1265: "value does not fit the column's type without loss",
    1292: "not a value this type can hold",
    1364: "no value for a NOT NULL column without default",
    1366: "value or character the column cannot hold",
    1367: "not a number this type can hold",
    1406: "value is too long",
    1411: "not a value this type can hold",
    1416: "not a geometry the target accepts",
    1452: "no such row in the referenced table",
    1451: "other rows reference this one",
    1586: "another row has the same unique value",
    1690: "value is out of range",
    3140: "not JSON the target accepts",
    3141: "not JSON the target accepts",
    3643: "the geometry's SRID is not the column's",
    3819: "violates a check constraint",
    4025: "violates a check constraint",
}
# Notes and warnings that mean a value was changed on its way in.
CHANGED_VALUE = frozenset({1264, 1265, 1292, 1366, 1406})
TRUNCATED = 1265


def number_of(error: pymysql.MySQLError) -> int:
    """0 where pymysql gives none: the connection broke."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def connect_error(error: pymysql.MySQLError, place: str) -> TailraceError:
    number = number_of(error)
    detail = str(error.args[1]) if len(error.args) > 1 else str(error)
    unreachable = TargetUnavailableError(f"the target {place} cannot be reached", detail=detail)
    return mysql_refusal(number, detail, "target", place) or unreachable


def statement_error(error: pymysql.MySQLError, table: TableId | None) -> TailraceError:
    """What a failed statement means. Text of rejected rows is our own, because the server's may quote the value."""
    number = number_of(error)
    named = f' in "{table}"' if table else ""
    if number in LOST or isinstance(error, pymysql.err.InterfaceError):
        return TargetUnavailableError("the connection to the target was lost", detail=f"error {number}", table=table)
    if number in _PASSING:
        return TargetUnavailableError(
            f"the target could not apply the batch now{named}",
            detail=_text(error),
            hint=_PASSING[number],
            table=table,
        )
    if number in _REJECTED:
        return rejected(number, _text(error), table)
    if number in (1044, 1142, 1143, 1227, 1370):
        hint = (
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE TEMPORARY TABLES ON … TO the sink's user"
        )
        message = f"the target does not allow it{named}"
        return StopError(message, code="PRIVILEGE", detail=_text(error), hint=hint, table=table)
    return StopError(
        f"the target refused a statement{named}",
        code=f"TARGET_{number}",
        detail=_text(error),
        hint="correct at the target what the detail names, then start again",
        table=table,
    )


def _text(error: pymysql.MySQLError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def truncated_column(text: str) -> str:
    """Of a warning with number TRUNCATED; empty where its text is another."""
    found = re.fullmatch(r"Data truncated for column '(.*)' at row \d+", text, re.DOTALL)
    return found.group(1) if found else ""


def rejected(number: int, text: str, table: TableId | None) -> RowRejectedError:
    """`text`: the server's message, of which only the name of a column or key is taken."""
    found = re.search(r"[Cc]olumn [`'](?:.*`)?([^`']+)[`']", text)
    column = found.group(1) if found else None
    key = re.search(r"for key '([^']+)'$", text)
    where = f'column "{column}": ' if column else ""
    by = f" (key {key.group(1)})" if key else ""
    hint = "change the target's column or key"
    if column and table and number in (1264, 1265, 1406):
        hint = f"ALTER TABLE `{table.schema}`.`{table.name}` MODIFY `{column}` longtext"
    return RowRejectedError(
        f'could not apply an event to "{table}"' if table else "could not apply an event",
        detail=f"{where}{_REJECTED.get(number, 'the target refused the row')}{by}",
        hint=hint,
        table=table,
        column=column,
    )
