"""What the source's catalogue says: tables as TableSchema, collations, and decoders of single-byte character sets.

One query per subject for any number of tables. A table with a column of a type that is not known is listed in
`Catalogue.refused`, so that preflight can name all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pymysql.connections import Connection

from tailrace_capture.mysql import native
from tailrace_capture.mysql.connection import ask, is_mariadb, literal
from tailrace_capture.mysql.native import Charsets, Collation
from tailrace_capture.mysql.plan import unknown_type
from tailrace_schemas.errors import TableStopError
from tailrace_schemas.table import Column, Engine, ForeignKey, TableId, TableSchema


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`storage`: engine of each table (InnoDB, MyISAM …)."""

    tables: dict[TableId, TableSchema]
    storage: dict[TableId, str]
    refused: dict[TableId, TableStopError] = field(default_factory=dict)


def table_names(connection: Connection[Any], database: str | None) -> list[TableId]:
    """Base tables outside the server's own databases."""
    where = "" if database is None else f" AND TABLE_SCHEMA = {literal(database)}"
    rows = ask(
        connection,
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"
        " WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')"
        f" AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys'){where} ORDER BY 1, 2",
    )
    return [TableId(str(schema), str(name)) for schema, name in rows]


def read_catalogue(connection: Connection[Any], tables: Iterable[TableId]) -> Catalogue:
    """Descriptions of those of `tables` that exist."""
    wanted = list(tables)
    if not wanted:
        return Catalogue({}, {})
    engine: Engine = "mariadb" if is_mariadb(connection) else "mysql"
    columns = _columns(connection, wanted)
    keys = _keys(connection, wanted)
    foreign = _foreign_keys(connection, wanted)
    out: dict[TableId, TableSchema] = {}
    refused: dict[TableId, TableStopError] = {}
    for table, rows in columns.items():
        try:
            described = tuple(_column(table, row) for row in rows)
        except TableStopError as error:
            refused[table] = error
            continue
        key, unique = _choose_key(keys.get(table, {}), {c.name for c in described if not c.nullable})
        out[table] = TableSchema(engine, table, described, key, unique, tuple(foreign.get(table, ())))
    return Catalogue(out, _storage(connection, wanted), refused)


def _among(wanted: list[TableId], prefix: str = "") -> str:
    if len(wanted) == 1:
        # MySQL 5.7 and MariaDB open this one table, and all of the server for a list.
        return " AND ".join(
            f"{prefix}{name} = {literal(part)}"
            for name, part in zip(("TABLE_SCHEMA", "TABLE_NAME"), wanted[0], strict=True)
        )
    names = ", ".join(f"({literal(t.schema)}, {literal(t.name)})" for t in wanted)
    return f"({prefix}TABLE_SCHEMA, {prefix}TABLE_NAME) IN ({names})"


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    native: str
    nullable: bool
    extra: str
    collation: str | None


def _columns(connection: Connection[Any], wanted: list[TableId]) -> dict[TableId, list[_Row]]:
    rows = ask(
        connection,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, EXTRA, COLLATION_NAME"
        f" FROM information_schema.COLUMNS WHERE {_among(wanted)} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
    )
    out: dict[TableId, list[_Row]] = {}
    for schema, table, name, spelling, nullable, extra, collation in rows:
        text = spelling.decode() if isinstance(spelling, bytes) else str(spelling)
        row = _Row(str(name), text, nullable == "YES", str(extra).upper(), collation)
        out.setdefault(TableId(str(schema), str(table)), []).append(row)
    return out


def _column(table: TableId, row: _Row) -> Column:
    type_ = native.logical_type(row.native)
    if type_ is None or "COMPRESSED" in row.native:
        raise unknown_type(table, row.name, row.native)
    # MySQL says DEFAULT_GENERATED of columns whose default is an expression; those are ordinary columns.
    generated = any(word in row.extra for word in ("VIRTUAL GENERATED", "STORED GENERATED", "PERSISTENT"))
    return Column(row.name, type_, row.native, row.nullable, generated, row.collation)


def _keys(connection: Connection[Any], wanted: list[TableId]) -> dict[TableId, dict[str, list[str | None]]]:
    """Unique indexes in the order of the table's definition, as far as the catalogue keeps it; the primary key first.
    None stands for an expression."""
    rows = ask(
        connection,
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS"
        f" WHERE NON_UNIQUE = 0 AND {_among(wanted)}"
        " ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX",
    )
    out: dict[TableId, dict[str, list[str | None]]] = {}
    for schema, table, index, column in rows:
        found = out.setdefault(TableId(str(schema), str(table)), {})
        found.setdefault(str(index), []).append(None if column is None else str(column))
    return out


def _choose_key(
    indexes: dict[str, list[str | None]], required: set[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """(key, further unique keys): the primary key, else the first unique index whose columns are all NOT NULL."""
    plain = {name: tuple(c for c in columns if c) for name, columns in indexes.items() if None not in columns}
    chosen = next((name for name, columns in plain.items() if name == "PRIMARY" or required.issuperset(columns)), None)
    unique = tuple(columns for name, columns in plain.items() if name != chosen)
    return (() if chosen is None else plain[chosen]), unique


def _foreign_keys(connection: Connection[Any], wanted: list[TableId]) -> dict[TableId, list[ForeignKey]]:
    rows = ask(
        connection,
        "SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA,"
        " k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE"
        " FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r"
        " ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME"
        " AND r.TABLE_NAME = k.TABLE_NAME"
        f" WHERE k.REFERENCED_TABLE_NAME IS NOT NULL AND {_among(wanted, 'k.')}"
        " ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
    )
    parts: dict[tuple[TableId, str], list[tuple[Any, ...]]] = {}
    for row in rows:
        parts.setdefault((TableId(str(row[0]), str(row[1])), str(row[2])), []).append(row)
    out: dict[TableId, list[ForeignKey]] = {}
    for (table, name), found in parts.items():
        first = found[0]
        key = ForeignKey(
            name=name,
            columns=tuple(str(row[3]) for row in found),
            parent=TableId(str(first[4]), str(first[5])),
            parent_columns=tuple(str(row[6]) for row in found),
            on_delete=str(first[7]),
            on_update=str(first[8]),
        )
        out.setdefault(table, []).append(key)
    return out


def _storage(connection: Connection[Any], wanted: list[TableId]) -> dict[TableId, str]:
    rows = ask(
        connection,
        f"SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE {_among(wanted)}",
    )
    return {TableId(str(schema), str(name)): str(engine) for schema, name, engine in rows}


def read_charsets(connection: Connection[Any]) -> Charsets:
    """All collations of the server; the mapping of single-byte character sets is read from it too."""
    widths = {
        str(name): int(width)
        for name, width in ask(connection, "SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
    }
    collations = {
        number: Collation(name, charset, widths[charset]) for number, name, charset in _collations(connection)
    }
    single = {charset for charset, width in widths.items() if width == 1} - native.UTF8 - {"binary"}
    return Charsets(collations, _decoders(connection, sorted(single)))


def _collations(connection: Connection[Any]) -> list[tuple[int, str, str]]:
    # MariaDB lists context collations (uca1400_ai_ci) once, under no character set; their full names and ids with each
    # character set are in the applicability view.
    if is_mariadb(connection) and _has_full_names(connection):
        rows = ask(
            connection,
            "SELECT ID, FULL_COLLATION_NAME, CHARACTER_SET_NAME"
            " FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID IS NOT NULL",
        )
    else:
        rows = ask(connection, "SELECT ID, COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATIONS")
    return [(int(number), str(name), str(charset)) for number, name, charset in rows if charset is not None]


def _has_full_names(connection: Connection[Any]) -> bool:
    return bool(
        ask(
            connection,
            "SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema'"
            " AND TABLE_NAME = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND COLUMN_NAME = 'FULL_COLLATION_NAME'",
        )
    )


def _decoders(connection: Connection[Any], charsets: list[str]) -> dict[str, Callable[[bytes], bytes]]:
    if not charsets:
        return {}
    # Character by character: the server's own mapping is the only one that has no exceptions.
    whole = "".join(f"{code:02x}" for code in range(256))
    text = f"CONVERT(UNHEX('{whole}') USING {{}})"
    parts = ", ".join(f"HEX(CONVERT(CONVERT({text.format(charset)} USING utf32) USING binary))" for charset in charsets)
    texts = ask(connection, f"SELECT {parts}")[0]
    return {
        charset: native.table_decoder(_characters(bytes.fromhex(text)))
        for charset, text in zip(charsets, texts, strict=True)
    }


def _characters(utf32: bytes) -> list[bytes]:
    return [utf32[i : i + 4].decode("utf-32-be").encode() for i in range(0, len(utf32), 4)]
