"""The TYPES.md of each source holds what the code does, row by row, and no type is missing from them.

A row's first cell names types as CREATE TABLE has them; a server makes a table of them all and describes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fix_rows_mysql
import fix_rows_postgres
import psycopg
import pytest
from fix_mysql import Sql
from fix_types_files import MYSQL, POSTGRES, Row, rows_of

from tailrace_capture.mysql import native
from tailrace_capture.postgres import catalog
from tailrace_schemas.avro import avro_type
from tailrace_schemas.table import Column, TableSchema
from tailrace_schemas.types import LogicalType
from tailrace_sinks.mysql_types import Flavor, mysql_type
from tailrace_sinks.postgres_types import postgres_type

_COLLATIONS = frozenset({"utf8mb4_0900_bin", "utf8mb4_nopad_bin"})
MYSQL9 = Flavor(False, (9, 7), _COLLATIONS)
MARIADB = Flavor(True, (11, 8), _COLLATIONS)


def logical_words(type_: LogicalType) -> str:
    """`decimal(10,2)`, `timestamp(3)`, `string(30)`, `array of int32`."""
    if type_.item is not None:
        return f"{type_.kind} of {logical_words(type_.item)}"
    numbers = [n for n in (type_.length, type_.precision, type_.scale) if n is not None]
    return type_.kind + (f"({','.join(map(str, numbers))})" if numbers else "") + " varying" * type_.varying


def avro_words(avro: Any) -> str:
    """The Avro type and the last part of Connect's name, with what parameters say: `bytes Decimal(10,2)`."""
    if not isinstance(avro, dict):
        return str(avro)
    if avro["type"] == "array":
        items = avro["items"]
        item = items[1] if isinstance(items, list) else items
        words = f"array of {avro_words(item)}"
        return f"{words} {_short(avro)}" if "connect.name" in avro else words
    if avro["type"] == "record":
        return f"record {_short(avro)}"
    if "connect.name" not in avro:
        return f"{avro['type']} ({avro['connect.type']})"
    numbers = {"Decimal": "({precision},{scale})"}.get(_short(avro), "").format_map(avro)
    length = avro.get("connect.parameters", {}).get("length")
    return f"{avro['type']} {_short(avro)}{numbers}" + (f"({length})" if length else "")


def _short(avro: dict[str, Any]) -> str:
    return str(avro["connect.name"]).rpartition(".")[2]


def mysql_words(column: Column, schema: TableSchema) -> str:
    """Without the collation; what MariaDB gets instead behind `MariaDB`."""
    here, there = (re.sub(r" (CHARACTER SET|COLLATE) .*", "", mysql_type(column, schema, f)) for f in (MYSQL9, MARIADB))
    return f"`{here}`" if here == there else f"`{here}`, MariaDB `{there}`"


def differences(rows: list[Row], columns: dict[str, Column], schema: TableSchema) -> list[str]:
    """`columns`: of a table made of the rows' types, by type. In the file `own` stands for the column's own type."""
    out = []
    for row in rows:
        for type_ in row.types:
            if (column := columns.get(type_)) is None:
                continue
            same = schema.engine == "postgresql"
            found = [
                (row.logical, logical_words(column.type)),
                (row.avro, avro_words(avro_type(column.type, set()))),
                (row.postgres.removeprefix("own, else "), f"`{postgres_type(column, schema.engine)}`"),
                (row.mysql, mysql_words(column, schema)),
            ]
            for number, (said, does) in enumerate(found):
                if number == 2 and same and said == "own":
                    continue
                if number == 3 and not same and said == "own" and column.native.split("(")[0] in does:
                    continue
                if said != does:
                    out.append(f"{type_}: the file says {said}, the code {does}")
    return out


@pytest.mark.servers
def test_every_row_of_the_postgres_file_is_what_the_code_does(postgres_database: Callable[[str], str]) -> None:
    rows = list(rows_of(POSTGRES))
    types = [type_ for row in rows for type_ in row.types if not type_.startswith(("vector", "halfvec"))]
    with psycopg.connect(postgres_database("POSTGRES18"), autocommit=True) as connection:
        connection.execute(fix_rows_postgres.PREPARE.encode())
        parts = ", ".join(f"c{n} {type_}" for n, type_ in enumerate(types))
        connection.execute(f"CREATE TABLE t ({parts})".encode())
        ((oid, table),) = catalog.all_tables(connection)
        schema = catalog.describe(connection, [(oid, table)])[0].schema
    columns = dict(zip(types, schema.columns, strict=True))
    assert not differences(rows, columns, schema)


@pytest.mark.servers
def test_the_postgres_file_holds_every_type_the_code_and_the_server_know(
    postgres_database: Callable[[str], str],
) -> None:
    types = [type_ for row in rows_of(POSTGRES) for type_ in row.types]
    with psycopg.connect(postgres_database("POSTGRES18"), autocommit=True) as connection:
        connection.execute(fix_rows_postgres.PREPARE.encode())
        names = connection.execute(
            "SELECT typname FROM pg_type JOIN unnest(%s::text[]) t ON pg_type.oid = to_regtype(t)", (types,)
        ).fetchall()
        # Types of columns: neither pseudo types nor those that only the catalogue itself may have.
        known = connection.execute(
            "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm')"
            " AND typcategory <> 'A' AND typname NOT IN ('gtsvector', 'aclitem') AND typname !~ '^pg_(?!lsn|snapshot)'"
        ).fetchall()
    said = {name for (name,) in names}
    assert {name for (name,) in known} - said == set()
    assert {*catalog._KINDS, *catalog._WITH_FRACTION, "numeric", "money", "bit", "varbit"} - said == set()
    assert {"vector(3)", "halfvec(3)"} <= set(types)


@pytest.mark.servers
@pytest.mark.parametrize("name", ["MYSQL9", "MARIADB118"])
def test_every_row_of_the_mysql_file_is_what_the_code_does(name: str, mysql_database: Callable[[str], str]) -> None:
    sql = Sql(mysql_database(name))
    rows = list(rows_of(MYSQL))
    only = {"uuid", "inet4", "inet6"} if name == "MYSQL9" else {"json"}  # in MariaDB another word for longtext
    types = [type_ for row in rows for type_ in row.types if type_ not in only]
    sql.run("SET SESSION sql_mode = ''")
    parts = ", ".join(f"c{n} {type_} NULL" for n, type_ in enumerate(types))
    sql.run(f"CREATE TABLE t (id int PRIMARY KEY, {parts}) CHARSET utf8mb4")
    schema = sql.table("t")
    sql.close()
    columns = dict(zip(types, schema.columns[1:], strict=True))
    assert not differences(rows, columns, schema)


def test_the_mysql_file_holds_every_type_the_code_knows() -> None:
    said = {re.split(r"\W", type_)[0] for row in rows_of(MYSQL) for type_ in row.types}
    listed = {
        "decimal",
        "char",
        "varchar",
        "binary",
        "varbinary",
        "bit",
        "enum",
        "set",
        "time",
        "datetime",
        "timestamp",
    }
    assert {*native._INTEGERS, *native._SIMPLE, *listed} - said == set()


@pytest.mark.parametrize("file", [POSTGRES, MYSQL])
def test_a_logical_type_has_one_parquet_form(file: Path) -> None:
    # The Parquet column is a plan: what can be checked is that it is one.
    forms: dict[str, set[str]] = {}
    for row in rows_of(file):
        forms.setdefault(re.sub(r"\(.*?\)", "", row.logical), set()).add(re.sub(r"\(.*?\)", "", row.parquet))
    assert {logical: form for logical, form in forms.items() if len(form) > 1} == {}


# What the random rows leave out, and why.
TEXT_LIKE = {"cid", "txid_snapshot", "refcursor", "int8multirange", "tsmultirange", "datemultirange"}
NAMES_OF_OBJECTS = {"regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator",
                    "regproc", "regprocedure", "regrole"}  # fmt: skip
NO_SERVER = {"vector(3)", "halfvec(3)"}  # of pgvector; MySQL's vector is tried


def test_every_type_of_the_files_goes_through_the_random_round_trip() -> None:
    families = (
        fix_rows_postgres.FAMILIES,
        fix_rows_postgres.IN_MYSQL,
        fix_rows_mysql.MYSQL,
        fix_rows_mysql.MARIADB,
    )
    tried = {values.type for family in families for columns in family.values() for values in columns}
    said = {type_ for file in (POSTGRES, MYSQL) for row in rows_of(file) for type_ in row.types}
    assert said - tried - TEXT_LIKE - NAMES_OF_OBJECTS - NO_SERVER == set()
