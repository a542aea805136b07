"""Source against target: rows and a checksum of every table, computed by each database over its own rows."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

# Text of a row is the same on both sides only under the same settings.
_SESSION = "set timezone = 'UTC'; set extra_float_digits = 1; set datestyle = 'ISO'; set intervalstyle = 'postgres'"


@dataclass(frozen=True, slots=True)
class Compared:
    """`rows` and `checksum` of both sides; the target's are None where it has no such table."""

    table: str
    rows: int
    checksum: str
    target_rows: int | None
    target_checksum: str | None

    @property
    def equal(self) -> bool:
        return (self.rows, self.checksum) == (self.target_rows, self.target_checksum)


def compare(source: str, target: str, schema: str) -> list[Compared]:
    """Every table of `schema`, by name. Both databases must stand still."""
    with psycopg.connect(source, autocommit=True) as left, psycopg.connect(target, autocommit=True) as right:
        left.execute(_SESSION)
        right.execute(_SESSION)
        return [_compare_table(left, right, schema, table, columns) for table, columns in _tables(left, schema)]


def _tables(connection: psycopg.Connection, schema: str) -> list[tuple[str, list[str]]]:
    # Generated columns do not travel: a target computes its own, where it has them.
    rows = connection.execute(
        "select table_name, array_agg(column_name::text order by ordinal_position) from information_schema.columns"
        " where table_schema = %s and is_generated = 'NEVER' group by table_name order by table_name",
        (schema,),
    ).fetchall()
    return [(str(name), list(columns)) for name, columns in rows]


def _compare_table(
    left: psycopg.Connection, right: psycopg.Connection, schema: str, table: str, columns: list[str]
) -> Compared:
    query = sql.SQL(
        "select count(*), coalesce(sum(hashtextextended(row({})::text, 7)::numeric), 0)::text from {}"
    ).format(sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table))
    rows, checksum = _one(left, query)
    try:
        target_rows, target_checksum = _one(right, query)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return Compared(table, rows, checksum, None, None)
    return Compared(table, rows, checksum, target_rows, target_checksum)


def _one(connection: psycopg.Connection, query: sql.Composed) -> tuple[int, str]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


def row_counts(connection: psycopg.Connection, schema: str) -> dict[str, int]:
    """Rows of every table of a schema."""
    out = {}
    for table, _ in _tables(connection, schema):
        out[table], _ = _one(connection, sql.SQL("select count(*), '' from {}").format(sql.Identifier(schema, table)))
    return out
