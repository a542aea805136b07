"""From a TableSchema to a decode plan: for each column how it stands in Avro and how a dialect wants it written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tailrace_schemas import avro
from tailrace_schemas.table import Column, TableSchema
from tailrace_schemas.types import Kind, LogicalType
from tailrace_sinks import envelope
from tailrace_sinks.envelope import Plan

# Fields of the `source` block in order (avro.source_schema); letters: see envelope.Reader.skip_letters.
_SOURCE = {"postgresql": b"ssslEsSLLssLLLSL", "mysql": b"ssslEsSLLSlSsllLS", "mariadb": b"ssslEsSLLSlSsllLS"}

_COMMON: dict[Kind, int] = {
    "boolean": envelope.R_BOOL,
    "int8": envelope.R_INT,
    "int16": envelope.R_INT,
    "int32": envelope.R_INT,
    "int64": envelope.R_INT,
    "year": envelope.R_INT,
    "float32": envelope.R_FLOAT,
    "float64": envelope.R_DOUBLE,
    "decimal": envelope.R_DECIMAL,
    "number": envelope.R_NUMBER,
    "date": envelope.R_DATE,
    "duration": envelope.R_DURATION,
    "interval": envelope.R_DURATION,
    "bits": envelope.R_BITS,
    "vector": envelope.R_VECTOR,
    **dict.fromkeys(
        ("string", "text", "timestamp_tz", "time_tz", "json", "xml", "uuid", "enum", "set"), envelope.R_TEXT
    ),
}


MYSQL_MAX_BITS = 64


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of targets wants values written. `quoting`: a Q_ code; `kinds`: R_ codes that differ."""

    quoting: int
    kinds: Mapping[Kind, int]


POSTGRES = Dialect(
    envelope.Q_COPY,
    {
        "bytes": envelope.R_HEX_PG,
        "array": envelope.R_ARRAY_PG,
        "geometry": envelope.R_EWKB,
        "timestamp_tz": envelope.R_INSTANT_PG,
    },
)
_MYSQL_KINDS: dict[Kind, int] = {
    "bytes": envelope.R_HEX,
    "array": envelope.R_ARRAY_JSON,
    "geometry": envelope.R_GEO_MY,
    "timestamp_tz": envelope.R_INSTANT,
    "year": envelope.R_YEAR,
}
MYSQL_TSV = Dialect(envelope.Q_TSV, _MYSQL_KINDS)
MYSQL_SQL = Dialect(envelope.Q_SQL, _MYSQL_KINDS)


def opcode(type_: LogicalType, dialect: Dialect, *, mysql: bool = False) -> int:
    """The R_ code of a type in a dialect; `mysql`: the source is of the MySQL family."""
    if dialect.quoting != envelope.Q_COPY and type_.kind == "bits" and (type_.length or 0) > MYSQL_MAX_BITS:
        return envelope.R_BITS_TEXT
    if dialect.quoting != envelope.Q_COPY and type_.kind == "vector" and mysql:
        return envelope.R_VECTOR_HEX
    if type_.kind == "time":
        return envelope.R_TIME_MS if avro.millis(type_) else envelope.R_TIME_US
    if type_.kind == "timestamp":
        return envelope.R_STAMP_MS if avro.millis(type_) else envelope.R_STAMP_US
    return dialect.kinds.get(type_.kind, _COMMON.get(type_.kind, -1))


def parameter(type_: LogicalType) -> int:
    """What the opcode needs beside the value: the scale of a decimal, the length of bits."""
    if type_.kind == "decimal":
        return type_.scale or 0
    return (type_.length or 0) if type_.kind == "bits" else 0


def item_of(column: Column) -> LogicalType:
    if column.type.kind == "vector":
        return column.type.item or LogicalType("float32")
    return column.type.item or LogicalType("text")


def decode_plan(schema: TableSchema, dialect: Dialect, *, null_zero_dates: bool = False) -> Plan:
    """The plan for events written with `schema`, for a target that speaks `dialect`. `null_zero_dates`: see Plan."""
    columns = schema.columns
    numbers = {name: n for n, name in enumerate(avro.field_names(columns))}
    numbers |= {column.name: n for n, column in enumerate(columns)}
    items = [item_of(column) for column in columns]
    return Plan(
        wires=bytes(avro.wire_code(column.type) for column in columns),
        ops=bytes(opcode(column.type, dialect, mysql=schema.engine != "postgresql") for column in columns),
        nullable=bytes(column.nullable for column in columns),
        params=[parameter(column.type) for column in columns],
        item_wires=bytes(avro.wire_code(item) for item in items),
        item_ops=bytes(opcode(item, dialect) for item in items),
        item_params=[parameter(item) for item in items],
        key=[numbers[name] for name in schema.key],
        source=_SOURCE[schema.engine],
        numbers=numbers,
        quoting=dialect.quoting,
        null_zero_dates=null_zero_dates,
    )
