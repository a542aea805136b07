"""What a Postgres error means for a sink: wait, set the row aside, or stop. Decided by SQLSTATE, never by a value.

Source: PostgreSQL manual, appendix "PostgreSQL Error Codes".
"""

from __future__ import annotations

import re

import psycopg

from tailrace_schemas.errors import (
    RowRejectedError,
    StopError,
    TailraceError,
    TargetUnavailableError,
)
from tailrace_schemas.refused import postgres_refusal
from tailrace_schemas.table import TableId

_PASSING: dict[str, str] = {
    "25006": "the target is read-only; point the URL at the primary, or wait for its promotion",
    "40001": "",
    "40P01": "",
    "53100": "the target's disk is full: free space; the sink goes on by itself",
    "53200": "the target is out of memory",
    "53300": "the target has no free connection: raise max_connections or end other sessions",
    "55006": "",
    "55P03": "another session holds a lock on the table",
    "57014": "a statement_timeout at the target may be too short for the sink",
}
# Texts of our own, because the server's may quote the value.
_REJECTED: dict[str, str] = {
    "22001": "value is too long",
    "22003": "value is out of range",
    "22007": "not a date or time this target can hold",
    "22008": "not a date or time this target can hold",
    "22021": "text with a character the target's encoding cannot hold (U+0000, for one)",
    "22P02": "value does not fit the column's type",
    "22P03": "value does not fit the column's type",
    "22P05": "text with a character the target's encoding cannot hold",
    "23502": "null in a NOT NULL column",
    "23503": "no such row in the referenced table",
    "23505": "another row has the same unique value",
    "23514": "violates a check constraint",
    "23P01": "violates an exclusion constraint",
}


def connect_error(error: psycopg.Error, place: str) -> TailraceError:
    """Why the target could not be reached. libpq gives a text only."""
    text = str(error)
    unreachable = TargetUnavailableError(f"the target {place} cannot be reached", detail=_first(text))
    return postgres_refusal(text, "target", place) or unreachable


def _first(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def statement_error(error: psycopg.Error, table: TableId | None, *, broken: bool) -> TailraceError:
    """What a failed statement means. `broken`: the connection is gone, and nothing was committed."""
    state = error.sqlstate or ""
    named = f' in "{table}"' if table else ""
    if state in _PASSING:
        return TargetUnavailableError(
            f"the target could not apply the batch now{named}",
            detail=_primary(error),
            hint=_PASSING[state],
            table=table,
        )
    if state[:2] in ("08", "53", "57", "58") or broken or not state:
        return TargetUnavailableError("the connection to the target was lost", detail=_first(str(error)), table=table)
    if state[:2] in ("21", "22", "23"):
        return _rejected(error, state, table)
    if state == "42501":
        user_hint = "give the sink's role INSERT, UPDATE, DELETE and SELECT on the table, and CREATE on its schema"
        message = f"the target does not allow it{named}"
        return StopError(message, code="PRIVILEGE", detail=_primary(error), hint=user_hint, table=table)
    return StopError(
        f"the target refused a statement{named}",
        code=f"TARGET_{state}",
        detail=_primary(error),
        hint="correct at the target what the detail names, then start again",
        table=table,
    )


def _primary(error: psycopg.Error) -> str:
    return error.diag.message_primary or _first(str(error))


def _rejected(error: psycopg.Error, state: str, table: TableId | None) -> RowRejectedError:
    diag = error.diag
    column = diag.column_name or _copied_column(diag.context or "")
    reason = _REJECTED.get(state, f"the target refused the row (SQLSTATE {state})")
    where = f'column "{column}": ' if column else ""
    by = f' (constraint "{diag.constraint_name}")' if diag.constraint_name else ""
    hint = "change the target's column or constraint"
    if state == "22001" and column and table:
        hint = f'ALTER TABLE "{table.schema}"."{table.name}" ALTER COLUMN "{column}" TYPE text'
    if state in ("22007", "22008"):
        hint = 'if it is a zero date of MySQL, set zero_dates to "null"; else change the column to text'
    return RowRejectedError(
        f'could not apply an event to "{table}"' if table else "could not apply an event",
        detail=f"{where}{reason}{by}",
        hint=hint,
        table=table,
        column=column,
    )


def _copied_column(context: str) -> str | None:
    """`COPY t, line 1, column qty: "…"`: the name only."""
    match = re.search(r"^COPY .*?, line \d+, column (.+?)(?:: |$)", context, re.MULTILINE)
    return match.group(1) if match else None
