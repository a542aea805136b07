"""Avro schemas of the topics beside the data: schema changes, heartbeats, transaction boundaries.

As Debezium writes them, so that its consumers read them; values are written with fastavro (a few records a second).
Source: Debezium 3.7, `SchemaFactory`, and schemas captured from its Avro converter.
"""

from __future__ import annotations

from typing import Any

from tailrace_schemas.avro import source_schema

Schema = dict[str, Any]


def _record(full_name: str, fields: list[Schema], version: int = 1) -> Schema:
    namespace, _, name = full_name.rpartition(".")
    return {
        "type": "record",
        "name": name,
        "namespace": namespace,
        "fields": fields,
        "connect.version": version,
        "connect.name": full_name,
    }


def _field(name: str, avro: Any) -> Schema:
    return {"name": name, "type": avro}


def _optional(name: str, avro: Any) -> Schema:
    return {"name": name, "type": ["null", avro], "default": None}


HEARTBEAT_KEY = _record("io.debezium.connector.common.ServerNameKey", [_field("serverName", "string")])
HEARTBEAT_VALUE = _record("io.debezium.connector.common.Heartbeat", [_field("ts_ms", "long")])

_COLLECTION = _record("event.collection", [_field("data_collection", "string"), _field("event_count", "long")])
TRANSACTION_KEY = _record("io.debezium.connector.common.TransactionMetadataKey", [_field("id", "string")])
TRANSACTION_VALUE = _record(
    "io.debezium.connector.common.TransactionMetadataValue",
    [
        _field("status", "string"),
        _field("id", "string"),
        _optional("event_count", "long"),
        _optional("data_collections", {"type": "array", "items": ["null", _COLLECTION]}),
        _field("ts_ms", "long"),
    ],
)

_ATTRIBUTE = _record("io.debezium.connector.schema.Attribute", [_field("name", "string"), _optional("value", "string")])
_COLUMN = _record(
    "io.debezium.connector.schema.Column",
    [
        _field("name", "string"),
        _field("jdbcType", "int"),
        _optional("nativeType", "int"),
        _field("typeName", "string"),
        _optional("typeExpression", "string"),
        _optional("charsetName", "string"),
        _optional("length", "int"),
        _optional("scale", "int"),
        _field("position", "int"),
        _optional("optional", "boolean"),
        _optional("autoIncremented", "boolean"),
        _optional("generated", "boolean"),
        _optional("comment", "string"),
        _optional("defaultValueExpression", "string"),
        _optional("enumValues", {"type": "array", "items": "string"}),
    ],
)
_TABLE = _record(
    "io.debezium.connector.schema.Table",
    [
        _optional("defaultCharsetName", "string"),
        _optional("primaryKeyColumnNames", {"type": "array", "items": "string"}),
        _field("columns", {"type": "array", "items": _COLUMN}),
        _optional("comment", "string"),
        _optional("attributes", {"type": "array", "items": _ATTRIBUTE}),
    ],
)
_CHANGE = _record(
    "io.debezium.connector.schema.Change",
    [_field("type", "string"), _field("id", "string"), _optional("table", _TABLE)],
)


def schema_change_key(engine: str) -> Schema:
    return _record(f"io.debezium.connector.{engine}.SchemaChangeKey", [_field("databaseName", "string")])


def schema_change_value(engine: str) -> Schema:
    return _record(
        f"io.debezium.connector.{engine}.SchemaChangeValue",
        [
            _field("source", source_schema(engine)),
            _field("ts_ms", "long"),
            _optional("databaseName", "string"),
            _optional("schemaName", "string"),
            _optional("ddl", "string"),
            _field("tableChanges", {"type": "array", "items": _CHANGE}),
        ],
    )
