"""Findings that every database sink shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from tailrace_schemas.errors import Finding
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks.sink import SinkConfig


def not_empty(table: TableId, statement: str) -> Finding:
    """Before a first load. `statement` empties the table. Several sources may fill one table, so it is no error."""
    message = f'table "{table}" holds rows already: those that the source does not have stay, and without a key all do'
    return Finding("warning", "TARGET_NOT_EMPTY", message, statement, table)


def equal_names(
    schemas: list[TableSchema], config: SinkConfig, table_name: Callable[[str], str], column_name: Callable[[str], str]
) -> Iterator[Finding]:
    """Tables that would be one table at the target, and columns that would be one column. `table_name` and
    `column_name`: what the target compares of a name; Postgres all of it, MySQL not the case of columns."""

    def place(schema: TableSchema) -> tuple[str, ...]:
        return tuple(map(table_name, config.target_of(schema.table)))

    places = Counter(map(place, schemas))
    for schema in schemas:
        if places[place(schema)] > 1:
            message = (
                f'several tables of the source would be table "{config.target_of(schema.table)}": "{schema.table}"'
            )
            remedy = f"rename it, give its namespace another target (map), or leave it out: --tables '!{schema.table}'"
            yield Finding("error", "NAMES_EQUAL", message, remedy, schema.table)
        columns = Counter(column_name(column.name) for column in schema.columns)
        for column in schema.columns:
            if columns[column_name(column.name)] > 1:
                message = f'column "{column.name}" of table "{schema.table}" has the name of another one at the target'
                yield Finding("error", "NAMES_EQUAL", message, "rename it at the source", schema.table)
