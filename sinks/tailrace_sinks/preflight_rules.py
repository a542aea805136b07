"""Findings that every database sink shares."""

from __future__ import annotations

from tailrace_schemas.errors import Finding
from tailrace_schemas.table import TableId


def not_empty(table: TableId, statement: str) -> Finding:
    """Before a first load. `statement` empties the table. Several sources may fill one table, so it is no error."""
    message = f'table "{table}" holds rows already: those that the source does not have stay, and without a key all do'
    return Finding("warning", "TARGET_NOT_EMPTY", message, statement, table)
