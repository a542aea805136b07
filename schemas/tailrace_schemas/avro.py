"""Debezium-compatible Avro schemas of a table's key and value, and the layout codecs write and read them by.

Field order, names and Connect properties follow Debezium 3.7 as captured from its Avro converter; two fields of ours
stand last in the envelope (`unavailable_columns`, `exact_values`), the first of which carries the whole TableSchema
as the property `tailrace.table`. Column defaults are left out: a function default has no Avro form, and a reader must
not fill in a value that the source did not send.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tailrace_schemas.table import Column, TableId, TableSchema
from tailrace_schemas.types import LogicalType

# How a value stands in Avro after its nullable branch. Codecs switch on these.
W_BOOLEAN = 0
W_LONG = 1  # int or long: the same zig-zag form
W_FLOAT = 2
W_DOUBLE = 3
W_STRING = 4
W_BYTES = 5
W_DECIMAL = 6  # bytes holding the unscaled value, big-endian
W_NUMBER = 7  # record: scale int, value bytes (VariableScaleDecimal)
W_ARRAY = 8
W_GEOMETRY = 9  # record: wkb bytes, srid nullable int

TABLE_PROPERTY = "tailrace.table"
UNAVAILABLE_TEXT = "__debezium_unavailable_value"

_PLAIN: dict[str, Any] = {
    "boolean": "boolean",
    "int8": {"type": "int", "connect.type": "int8"},
    "int16": {"type": "int", "connect.type": "int16"},
    "int32": "int",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    "string": "string",
    "text": "string",
    "bytes": "bytes",
}
_SEMANTIC: dict[str, tuple[str, str]] = {
    "date": ("int", "io.debezium.time.Date"),
    "duration": ("long", "io.debezium.time.MicroTime"),
    "timestamp_tz": ("string", "io.debezium.time.ZonedTimestamp"),
    "time_tz": ("string", "io.debezium.time.ZonedTime"),
    "interval": ("long", "io.debezium.time.MicroDuration"),
    "year": ("int", "io.debezium.time.Year"),
    "json": ("string", "io.debezium.data.Json"),
    "xml": ("string", "io.debezium.data.Xml"),
    "uuid": ("string", "io.debezium.data.Uuid"),
}
_WIRE: dict[str, int] = {
    "boolean": W_BOOLEAN,
    "float32": W_FLOAT,
    "float64": W_DOUBLE,
    "bytes": W_BYTES,
    "bits": W_BYTES,
    "decimal": W_DECIMAL,
    "number": W_NUMBER,
    "array": W_ARRAY,
    "vector": W_ARRAY,
    "geometry": W_GEOMETRY,
    **dict.fromkeys(("int8", "int16", "int32", "int64", "date", "time", "duration", "timestamp"), W_LONG),
    **dict.fromkeys(("interval", "year"), W_LONG),
    **dict.fromkeys(("string", "text", "timestamp_tz", "time_tz", "json", "xml", "uuid", "enum", "set"), W_STRING),
}


def wire_code(type_: LogicalType) -> int:
    """The W_ code of a type."""
    return _WIRE[type_.kind]


def millis(type_: LogicalType) -> bool:
    """True where a time or timestamp stands in milliseconds (up to 3 fractional digits), as Debezium's adaptive mode
    has it; microseconds otherwise. A duration is always in microseconds."""
    return type_.kind in ("time", "timestamp") and type_.precision is not None and type_.precision <= 3


def _connect(avro: str, name: str, parameters: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"type": avro, **more, "connect.version": 1}
    if parameters:
        out["connect.parameters"] = parameters
    out["connect.name"] = name
    return out


def _decimal(type_: LogicalType) -> dict[str, Any]:
    scale, precision = type_.scale or 0, type_.precision or 0
    out = _connect(
        "bytes",
        "org.apache.kafka.connect.data.Decimal",
        {"scale": str(scale), "connect.decimal.precision": str(precision)},
        scale=scale,
        precision=precision,
    )
    return {**out, "logicalType": "decimal"}


def _record(full_name: str, doc: str, fields: list[dict[str, Any]], seen: set[str]) -> dict[str, Any] | str:
    if full_name in seen:
        return full_name
    seen.add(full_name)
    namespace, _, name = full_name.rpartition(".")
    return {
        "type": "record",
        "name": name,
        "namespace": namespace,
        "fields": fields,
        "connect.doc": doc,
        "connect.version": 1,
        "connect.name": full_name,
    }


def avro_type(type_: LogicalType, seen: set[str]) -> Any:
    """The Avro form of one value. `seen`: records already defined in this schema, since Avro defines a name once."""
    kind = type_.kind
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _SEMANTIC:
        return _connect(*_SEMANTIC[kind])
    if kind == "decimal":
        return _decimal(type_)
    if kind == "number":
        fields: list[dict[str, Any]] = [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]
        return _record("io.debezium.data.VariableScaleDecimal", "Variable scaled decimal", fields, seen)
    if kind == "time":
        return (
            _connect("int", "io.debezium.time.Time")
            if millis(type_)
            else _connect("long", "io.debezium.time.MicroTime")
        )
    if kind == "timestamp":
        return _connect("long", "io.debezium.time.Timestamp" if millis(type_) else "io.debezium.time.MicroTimestamp")
    if kind in ("enum", "set"):
        name = "io.debezium.data.Enum" if kind == "enum" else "io.debezium.data.EnumSet"
        return _connect("string", name, {"allowed": ",".join(type_.labels)})
    if kind == "bits":
        return _connect("bytes", "io.debezium.data.Bits", {"length": str(type_.length)})
    if kind == "geometry":
        geometry: list[dict[str, Any]] = [{"name": "wkb", "type": "bytes"}, _optional("srid", "int")]
        return _record("io.debezium.data.geometry.Geometry", "Geometry", geometry, seen)
    if kind == "vector":
        item = type_.item or LogicalType("float32")
        name = "io.debezium.data.FloatVector" if item.kind == "float32" else "io.debezium.data.DoubleVector"
        return {"type": "array", "items": avro_type(item, seen), "connect.version": 1, "connect.name": name}
    if kind == "array":
        assert type_.item is not None
        return {"type": "array", "items": ["null", avro_type(type_.item, seen)]}
    raise AssertionError(kind)


def avro_name(text: str) -> str:
    """A name Avro accepts: other characters become `_`, a leading digit gets `_` before it."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return name if name and not name[0].isdigit() else f"_{name}"


def avro_namespace(prefix: str, table: TableId) -> str:
    return ".".join(avro_name(part) for part in (*prefix.split("."), table.schema, table.name))


def field_names(columns: tuple[Column, ...]) -> list[str]:
    """One distinct Avro name per column, in column order."""
    out: list[str] = []
    for column in columns:
        name = avro_name(column.name)
        while name in out:
            name += "_"
        out.append(name)
    return out


def _fields(schema: TableSchema, columns: tuple[Column, ...], is_key: bool, seen: set[str]) -> list[dict[str, Any]]:
    names = dict(zip((c.name for c in schema.columns), field_names(schema.columns), strict=True))
    out = []
    for column in columns:
        form = avro_type(column.type, seen)
        if is_key or not column.nullable:
            out.append({"name": names[column.name], "type": form})
        else:
            out.append({"name": names[column.name], "type": ["null", form], "default": None})
    return out


def key_schema(prefix: str, schema: TableSchema) -> dict[str, Any] | None:
    """The key record of a table, or None for a keyless table."""
    if not schema.key:
        return None
    namespace = avro_namespace(prefix, schema.table)
    return {
        "type": "record",
        "name": "Key",
        "namespace": namespace,
        "fields": _fields(schema, schema.key_columns, True, set()),
        "connect.name": f"{namespace}.Key",
    }


def _optional(name: str, avro: Any) -> dict[str, Any]:
    return {"name": name, "type": ["null", avro], "default": None}


_SNAPSHOT_WORDS = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"
_SNAPSHOT_FIELD = {
    "name": "snapshot",
    "type": [
        {
            "type": "string",
            "connect.version": 1,
            "connect.parameters": {"allowed": _SNAPSHOT_WORDS},
            "connect.default": "false",
            "connect.name": "io.debezium.data.Enum",
        },
        "null",
    ],
    "default": "false",
}
_SOURCE_COMMON: list[dict[str, Any]] = [
    {"name": "version", "type": "string"},
    {"name": "connector", "type": "string"},
    {"name": "name", "type": "string"},
    {"name": "ts_ms", "type": "long"},
    _SNAPSHOT_FIELD,
    {"name": "db", "type": "string"},
    _optional("sequence", "string"),
    _optional("ts_us", "long"),
    _optional("ts_ns", "long"),
]
_SOURCE_POSTGRES: list[dict[str, Any]] = [
    {"name": "schema", "type": "string"},
    {"name": "table", "type": "string"},
    _optional("txId", "long"),
    _optional("lsn", "long"),
    _optional("xmin", "long"),
    _optional("origin", "string"),
    _optional("origin_lsn", "long"),
]
_SOURCE_BINLOG: list[dict[str, Any]] = [
    _optional("table", "string"),
    {"name": "server_id", "type": "long"},
    _optional("gtid", "string"),
    {"name": "file", "type": "string"},
    {"name": "pos", "type": "long"},
    {"name": "row", "type": "int"},
    _optional("thread", "long"),
    _optional("query", "string"),
]


def source_schema(engine: str) -> dict[str, Any]:
    """The `source` block of an engine's events."""
    namespace = f"io.debezium.connector.{engine}"
    return {
        "type": "record",
        "name": "Source",
        "namespace": namespace,
        "fields": [*_SOURCE_COMMON, *(_SOURCE_POSTGRES if engine == "postgresql" else _SOURCE_BINLOG)],
        "connect.version": 1,
        "connect.name": f"{namespace}.Source",
    }


_TRANSACTION = {
    "type": "record",
    "name": "block",
    "namespace": "event",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "total_order", "type": "long"},
        {"name": "data_collection_order", "type": "long"},
    ],
    "connect.version": 1,
    "connect.name": "event.block",
}


def value_schema(prefix: str, schema: TableSchema) -> dict[str, Any]:
    """The envelope of a table's change events."""
    namespace = avro_namespace(prefix, schema.table)
    row = {
        "type": "record",
        "name": "Value",
        "fields": _fields(schema, schema.columns, False, set()),
        "connect.name": f"{namespace}.Value",
    }
    names = {"type": "array", "items": "string"}
    return {
        "type": "record",
        "name": "Envelope",
        "namespace": namespace,
        "fields": [
            _optional("before", row),
            _optional("after", "Value"),
            {"name": "source", "type": source_schema(schema.engine)},
            _optional("transaction", _TRANSACTION),
            {"name": "op", "type": "string"},
            _optional("ts_ms", "long"),
            _optional("ts_us", "long"),
            _optional("ts_ns", "long"),
            {**_optional("unavailable_columns", names), TABLE_PROPERTY: schema.to_json()},
            _optional("exact_values", {"type": "map", "values": "string"}),
        ],
        "connect.version": 2,
        "connect.name": f"{namespace}.Envelope",
    }


def table_of(value_schema_text: str) -> TableSchema:
    """The TableSchema inside a registered value schema.

    Raises:
        ValueError: the schema was not written by Tailrace.
    """
    for field in json.loads(value_schema_text)["fields"]:
        if TABLE_PROPERTY in field:
            return TableSchema.from_json(field[TABLE_PROPERTY])
    raise ValueError(f"value schema without the property {TABLE_PROPERTY}")
