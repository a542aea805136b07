"""Which Postgres type a column gets in a table that the sink creates, spelled as format_type has it.

The tables of choices are the sources' TYPES.md.
"""

from __future__ import annotations

from tailrace_schemas.table import Column, Engine
from tailrace_schemas.types import LogicalType

_PLAIN = {
    "boolean": "boolean",
    "int8": "smallint",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float32": "real",
    "float64": "double precision",
    "number": "numeric",
    "bytes": "bytea",
    "date": "date",
    "time_tz": "time with time zone",
    "interval": "interval",
    "year": "smallint",
    # json, not jsonb: it keeps the text as the source sent it, \u0000 and the order of keys included.
    "json": "json",
    "xml": "xml",
    "uuid": "uuid",
    "enum": "text",
    "set": "text",
    "geometry": "bytea",
    "text": "text",
}
_MAX_VARCHAR = 10_485_760


def postgres_type(column: Column, engine: Engine) -> str:
    """The type by its meaning, for sources of another engine, and where the source's own type is not known here.

    Every value of the source's type fits and comes back the same.
    """
    if engine != "postgresql" and column.native.lower() in ("bit(1)", "bit"):
        return "bit(1)"
    if engine != "postgresql" and column.native.lower() in ("inet4", "inet6"):
        return "inet"
    return _by_kind(column.type)


def _by_kind(type_: LogicalType) -> str:
    kind = type_.kind
    if kind == "string":
        return f"character varying({type_.length})" if type_.length and type_.length <= _MAX_VARCHAR else "text"
    if kind == "decimal":
        return f"numeric({type_.precision},{type_.scale or 0})"
    if kind == "bits":
        return f"bit({type_.length or 1})"
    if kind == "duration":
        # MySQL's TIME goes to ±838 hours, Postgres' time to 24.
        return f"interval({_digits(type_)})"
    if kind == "time":
        return f"time({_digits(type_)}) without time zone"
    if kind == "timestamp":
        return f"timestamp({_digits(type_)}) without time zone"
    if kind == "timestamp_tz":
        return f"timestamp({_digits(type_)}) with time zone"
    if kind == "array":
        return f"{_by_kind(type_.item or LogicalType('text'))}[]"
    if kind == "vector":
        return f"{_by_kind(type_.item or LogicalType('float32'))}[]"
    return _PLAIN[kind]


def _digits(type_: LogicalType) -> int:
    return 6 if type_.precision is None else min(type_.precision, 6)
