"""Keys of a table in the source's own order: literals for conditions, chunk bounds, and the chunk of a key (rule B12).

Where Python sorts a type exactly as the server does, keys are compared here; for the rest (collations, FLOAT, ENUM …)
the source is asked.
"""

from __future__ import annotations

import bisect
import io
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
from pymysql.connections import Connection

from tailrace_capture.mysql.connection import ask, literal, quote, run
from tailrace_capture.mysql.select_rows import table_sql
from tailrace_capture.source import TableFeed, fitting_rows
from tailrace_schemas.avro import key_schema, millis
from tailrace_schemas.errors import InvariantError
from tailrace_schemas.table import Column, TableSchema

Bound = Sequence[str]
_NUMBERS = frozenset({"int8", "int16", "int32", "int64", "decimal", "year"})
_EXACT = _NUMBERS | {"date", "timestamp", "timestamp_tz", "duration", "boolean", "bits"}
_MEMORY = 200_000


def is_exact(column: Column) -> bool:
    """Whether the order of this type is the same here as in the source."""
    return column.type.kind in _EXACT or column.type.kind == "bytes"


def as_text(column: Column, value: Any) -> str:
    """A decoded key value as the text that chunk bounds hold: what the server prints; bytes and bits as hex."""
    kind = column.type.kind
    if kind in _NUMBERS or kind == "boolean":
        return f"{value:f}" if isinstance(value, Decimal) else str(int(value))
    if kind == "bytes":
        return bytes(value).hex()
    if kind == "bits":
        return bytes(value)[::-1].hex()
    if kind == "date":
        return str(date(1970, 1, 1) + timedelta(days=value)) if value >= -719162 else _year_zero(value)
    if kind == "timestamp":
        micros = value * 1000 if millis(column.type) else value
        return _moment(micros, column.type.precision or 0)
    if kind == "timestamp_tz":
        return str(value).replace("T", " ").removesuffix("Z")
    if kind == "duration":
        return _duration(value, column.type.precision or 0)
    if kind in ("float32", "float64"):
        return repr(float(value))
    return str(value)


def _year_zero(days: int) -> str:
    # Year 0 is a leap year, as 2000 is.
    return "0000" + str(date(2000, 1, 1) + timedelta(days=days + 719528))[4:]


def _moment(micros: int, digits: int) -> str:
    days, rest = divmod(micros, 86_400_000_000)
    day = str(date(1970, 1, 1) + timedelta(days=days)) if days >= -719162 else _year_zero(days)
    clock = (datetime(2000, 1, 1) + timedelta(microseconds=rest)).time().isoformat("microseconds")  # noqa: DTZ001
    return f"{day} {clock[: 9 + digits if digits else 8]}"


def _duration(micros: int, digits: int) -> str:
    seconds, part = divmod(abs(micros), 1_000_000)
    text = f"{'-' if micros < 0 else ''}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return text + (f".{part:06d}"[: digits + 1] if digits else "")


def literal_of(column: Column, text: str) -> str:
    """The SQL literal of a bound's text, of the column's own type and collation, so that an index serves."""
    kind = column.type.kind
    if kind in _NUMBERS or kind in ("boolean", "float64", "float32"):
        return text
    if kind in ("bytes", "bits"):
        return f"x'{text}'" if kind == "bytes" else f"CAST(CONV('{text}', 16, 10) AS UNSIGNED)"
    if kind in ("enum", "set"):
        return str(_label_number(column, text))
    if kind in ("uuid", "text"):
        return f"CAST({literal(text)} AS {column.native})"
    if column.collation is not None and kind == "string":
        charset = column.collation.partition("_")[0]
        return f"CONVERT({literal(text)} USING {charset}) COLLATE {column.collation}"
    return literal(text)


def text_expression(column: Column) -> str:
    """How to select a key column so that its value is the text of a bound."""
    name = quote(column.name)
    if column.type.kind == "bytes":
        return f"LOWER(HEX({name}))"
    if column.type.kind == "bits":
        width = 2 * ((column.type.length or 1) + 7) // 8
        return f"LPAD(LOWER(HEX({name} + 0)), {width + width % 2}, '0')"
    if column.type.kind == "boolean":
        return f"{name} + 0"
    if column.type.kind == "float32":
        return f"{name} + 0e0"
    return f"CAST({name} AS CHAR)"


def condition(columns: Sequence[Column], low: Bound | None, high: Bound | None) -> str:
    """`low <= key < high` as alternatives that a range scan serves; a row constructor would not be."""
    parts = []
    if low is not None:
        parts.append(_beyond(columns, low, ">", ">="))
    if high is not None:
        parts.append(_beyond(columns, high, "<", "<"))
    return " AND ".join(parts) or "TRUE"


def _beyond(columns: Sequence[Column], bound: Bound, strict: str, last: str) -> str:
    """(a, b, c) > (x, y, z) is a > x OR (a = x AND (b > y OR (b = y AND c > z)))."""
    name, value = quote(columns[0].name), literal_of(columns[0], bound[0])
    if len(columns) == 1:
        return f"{name} {last} {value}"
    rest = _beyond(columns[1:], bound[1:], strict, last)
    # The first comparison alone bounds the range scan.
    return f"{name} {strict}= {value} AND ({name} {strict} {value} OR ({rest}))"


def plan_bounds(connection: Connection[Any], schema: TableSchema, chunk_rows: int) -> list[list[str]]:
    """Walk the key's index: the key that stands `chunk_rows` after the last bound, until there is none.

    Raises:
        pymysql.MySQLError: among others, the table is gone or has other columns by now.
    """
    if not schema.key or chunk_rows <= 0:
        return []
    columns = schema.key_columns
    chunk_rows = _fitting_rows(connection, schema, chunk_rows)
    texts = ", ".join(text_expression(column) for column in columns)
    order = ", ".join(quote(column.name) for column in columns)
    out: list[list[str]] = []
    while True:
        where = condition(columns, out[-1] if out else None, None)
        found = run(
            connection,
            f"SELECT {texts} FROM {table_sql(schema.table)} WHERE {where} ORDER BY {order} LIMIT 1 OFFSET {chunk_rows}",
        )
        if not found:
            return out
        bound = [_text(value) for value in found[0]]
        if out and bound == out[-1]:
            raise InvariantError(f"the key of {schema.table} does not order its rows")
        out.append(bound)


def _fitting_rows(connection: Connection[Any], schema: TableSchema, chunk_rows: int) -> int:
    """By the server's own estimate of a row, values kept outside of it included."""
    found = ask(
        connection,
        "SELECT AVG_ROW_LENGTH FROM information_schema.TABLES WHERE (TABLE_SCHEMA, TABLE_NAME) = (%s, %s)",
        tuple(schema.table),
    )
    return fitting_rows(chunk_rows, float(found[0][0] or 1) if found else 1.0)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class KeyReader:
    """Decodes record keys of one table."""

    def __init__(self, schema: TableSchema) -> None:
        self.columns = schema.key_columns
        self._schema = fastavro.parse_schema(key_schema("x", schema) or {})

    def texts(self, key: bytes) -> list[str]:
        record = fastavro.schemaless_reader(io.BytesIO(key[5:]), self._schema, None)
        assert isinstance(record, dict)
        return [as_text(column, value) for column, value in zip(self.columns, record.values(), strict=True)]


_Comparable = tuple[Any, ...]


def comparable(columns: Sequence[Column], texts: Sequence[str]) -> _Comparable:
    """Values that sort in Python as they do in the source; only for `is_exact` columns."""
    return tuple(_sortable(column, text) for column, text in zip(columns, texts, strict=True))


def _sortable(column: Column, text: str) -> object:
    kind = column.type.kind
    if kind in _NUMBERS:
        return Decimal(text)
    if kind in ("bytes", "bits"):
        return bytes.fromhex(text)
    if kind == "boolean":
        return int(text)
    if kind == "duration":
        hours, minutes, seconds = text.lstrip("-").split(":")
        size = (int(hours) * 60 + int(minutes)) * 60 + Decimal(seconds)
        return -size if text.startswith("-") else size
    return text  # dates and times in ISO form, all of the same number of digits


class ExactOrder:
    def __init__(self, schema: TableSchema, bounds: list[list[str]]) -> None:
        self._keys = KeyReader(schema)
        self._bounds = [comparable(schema.key_columns, bound) for bound in bounds]

    def chunk_of(self, key: bytes) -> int:
        return bisect.bisect_right(self._bounds, comparable(self._keys.columns, self._keys.texts(key)))


class AskedOrder:
    """The source compares: a binary search over the bounds in one query, remembered per key."""

    def __init__(self, connect: Callable[[], Connection[Any]], schema: TableSchema, bounds: list[list[str]]) -> None:
        self._connect, self._keys, self._bounds = connect, KeyReader(schema), bounds
        self._connection: Connection[Any] | None = None
        self._known: dict[bytes, int] = {}

    def chunk_of(self, key: bytes) -> int:
        found = self._known.get(key)
        if found is None:
            if self._connection is None:
                self._connection = self._connect()
            found = self._ask(self._connection, self._keys.texts(key))
            if len(self._known) >= _MEMORY:
                self._known.clear()
            self._known[key] = found
        return found

    def _ask(self, connection: Connection[Any], texts: list[str]) -> int:
        low, high = 0, len(self._bounds)
        while low < high:
            steps = self._bounds[low:high] if high - low <= 8 else [self._bounds[(low + high) // 2]]
            tests = ", ".join(self._at_or_after(texts, bound) for bound in steps)
            answers = ask(connection, f"SELECT {tests}")[0]
            if len(steps) == high - low:
                return low + sum(int(answer) for answer in answers)
            middle = (low + high) // 2
            low, high = (middle + 1, high) if answers[0] else (low, middle)
        return low

    def _at_or_after(self, texts: list[str], bound: Bound) -> str:
        """key >= bound, by the columns' own collations."""
        out = ""
        for column, text, limit in reversed(list(zip(self._keys.columns, texts, bound, strict=True))):
            mine, theirs = literal_of(column, text), literal_of(column, limit)
            out = f"({mine} >= {theirs})" if not out else f"({mine} > {theirs} OR ({mine} = {theirs} AND {out}))"
        return out


def _label_number(column: Column, text: str) -> int:
    """ENUM and SET sort by number, and compare by it with numbers."""
    labels = column.type.labels
    if column.type.kind == "enum":
        return labels.index(text) + 1 if text else 0
    return sum(1 << labels.index(label) for label in text.split(",") if label)


def in_range(columns: Sequence[Column], texts: Sequence[str], low: Bound | None, high: Bound | None) -> bool | None:
    """Whether low <= key < high; None when only the source can tell."""
    if not all(is_exact(column) for column in columns):
        return None
    key = comparable(columns, texts)
    return (low is None or comparable(columns, low) <= key) and (high is None or key < comparable(columns, high))


def key_order(
    connect: Callable[[], Connection[Any]], feed: TableFeed, bounds: list[list[str]]
) -> ExactOrder | AskedOrder:
    if all(is_exact(column) for column in feed.schema.key_columns):
        return ExactOrder(feed.schema, bounds)
    return AskedOrder(connect, feed.schema, bounds)
