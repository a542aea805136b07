"""Source against target: of every table the number of rows and a checksum, computed by each database over its own rows.

A row's text is the same on both engines: each column in one canonical form, each form after its length. A checksum is
the sum of two 60-bit parts of the rows' SHA-256, so the order of rows does not matter and equal rows count each time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipeline.matrix.engine import Rows, Session, Side
from pipeline.matrix.tables import TABLES, Column, Table

SHOWN = 4


@dataclass(frozen=True, slots=True)
class Sum:
    rows: int
    first: str
    second: str


def differences(source: Side, target: Side) -> list[str]:
    """One line for every table that differs, with some of its rows; none when both sides are equal. Both must stand
    still."""
    with source.session() as left, target.session() as right:
        return [line for table in TABLES for line in _table(table, source, left, target, right)]


def _table(table: Table, source: Side, left: Session, target: Side, right: Session) -> list[str]:
    here, there = _sum(table, source, left), _sum(table, target, right)
    if here == there:
        return []
    only_here, only_there = _rows_only_at(table, source, left, target, right)
    lines = [f"{table.name}: source {here}, target {there}, {len(only_here)} and {len(only_there)} rows of their own"]
    lines += [f"  only at the source: {text}" for text in only_here[:SHOWN]]
    return lines + [f"  only at the target: {text}" for text in only_there[:SHOWN]]


def total_rows(side: Side) -> int:
    with side.session() as session:
        return sum(_sum(table, side, session).rows for table in TABLES)


def _sum(table: Table, side: Side, session: Session) -> Sum:
    row = _row_text(table, side, session)
    if side.engine == "postgresql":
        hashed = f"encode(sha256(convert_to({row}, 'UTF8')), 'hex')"
        parts = [f"sum(('x' || substr(h, {at}, 15))::bit(60)::bigint::numeric)" for at in (1, 16)]
    else:
        hashed = f"sha2({row}, 256)"  # MySQL 9.6 has no md5() any more
        parts = [f"sum(cast(conv(substr(h, {at}, 15), 16, 10) AS decimal(30)))" for at in (1, 16)]
    name = side.dialect.quote(table.name)
    query = f"SELECT count(*), {', '.join(parts)} FROM (SELECT {hashed} AS h FROM {name}) AS hashed"
    ((count, first, second),) = session.rows(query)
    return Sum(int(str(count)), str(first), str(second))


def _rows_only_at(
    table: Table, source: Side, left: Session, target: Side, right: Session
) -> tuple[list[str], list[str]]:
    here, there = (_texts(table, *side) for side in ((source, left), (target, right)))
    return sorted(_without(here, there)), sorted(_without(there, here))


def _texts(table: Table, side: Side, session: Session) -> list[str]:
    rows: Rows = session.rows(f"SELECT {_row_text(table, side, session)} FROM {side.dialect.quote(table.name)}")
    return [str(text) for (text,) in rows]


def _without(some: list[str], others: list[str]) -> list[str]:
    return list((Counter(some) - Counter(others)).elements())


# ---- canonical text


def _row_text(table: Table, side: Side, session: Session) -> str:
    """An expression for the text of a row; its columns are named, so their order at the target does not matter."""
    types = _types(table, side, session)
    missing = [column.name for column in table.columns if column.name not in types]
    assert not missing, f"{table.name} lacks {missing} in {side.url}"
    form = _postgres_form if side.engine == "postgresql" else _mysql_form
    parts = [form(column, types[column.name], side.dialect.quote(column.name)) for column in table.columns]
    if side.engine == "postgresql":
        return " || ".join(f"coalesce(length({part})::text || ':' || {part}, '~')" for part in parts)
    texts = (f"coalesce(concat(char_length({part}), ':', {part}), '~')" for part in parts)
    return f"concat({', '.join(texts)})"


def _types(table: Table, side: Side, session: Session) -> dict[str, str]:
    rows = session.rows(
        "SELECT column_name AS name, data_type AS type FROM information_schema.columns"
        f" WHERE table_schema = {side.dialect.literal(side.namespace)}"
        f" AND table_name = {side.dialect.literal(table.name)}"
    )
    return {str(name): str(type_).lower() for name, type_ in rows}


def _postgres_form(column: Column, type_: str, name: str) -> str:
    match column.word:
        case "bool" if type_ == "boolean":
            return f"({name}::int)::text"
        case "number" if type_ == "numeric":
            return f"trim_scale({name})::text"
        case "stamp":
            return f"to_char({name}, 'FMYYYY-MM-DD HH24:MI:SS.US')"
        case "instant":
            return f"to_char({name}::timestamptz AT TIME ZONE 'UTC', 'FMYYYY-MM-DD HH24:MI:SS.US')"
        case "time":
            return f"to_char({name}::interval, 'HH24:MI:SS.US')"
        case "json":
            return f"{name}::jsonb::text"
        case "bytes":
            return f"encode({name}, 'hex')"
        case "uuid":
            return f"rtrim({name}::text)"
        case _:
            return f"{name}::text"


def _mysql_form(column: Column, type_: str, name: str) -> str:
    text = f"convert({name} USING utf8mb4)"
    match column.word:
        case "number" if type_ == "decimal":
            return f"trim(TRAILING '.' FROM trim(TRAILING '0' FROM cast({name} AS char)))"
        case "stamp" | "instant":
            return f"date_format({name}, '%Y-%m-%d %H:%i:%s.%f')"
        case "time":
            return f"time_format({name}, '%H:%i:%s.%f')"
        case "date":
            return f"date_format({name}, '%Y-%m-%d')"
        case "json" if type_ == "json":
            return f"cast({name} AS char)"
        case "json":
            return f"json_loose({name})"  # MariaDB keeps the text as it came
        case "bytes":
            return f"lower(hex({name}))"
        case "uuid" if type_ == "uuid":
            return f"cast({name} AS char)"
        case "text" | "short" | "external" | "bytewise" | "locale" | "uuid":
            return text
        case _:
            return f"cast({name} AS char)"
