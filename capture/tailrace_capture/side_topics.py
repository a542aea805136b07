"""Records for foreign consumers only: schema changes, heartbeats and, on request, transaction boundaries and truncates.

Those in topics of their own ride along in log transactions but are not counted in commit records, and no sink of ours
reads them. An event of op `t` stands among its table's data: it is counted, and sinks of ours pass over it.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from typing import Any

import fastavro
from librt.strings import BytesWriter

from tailrace_capture.source import TableFeed, Transaction
from tailrace_log.frames import Clock
from tailrace_log.log import Batch, EventLog, LogWriter
from tailrace_schemas import avro_side, wire
from tailrace_schemas.avro import value_schema
from tailrace_schemas.table import Column, TableSchema
from tailrace_schemas.topic import heartbeat_topic, topic_name, transaction_topic
from tailrace_schemas.version import VERSION

# java.sql.Types, as Debezium's schema changes carry them.
_JDBC = {
    "boolean": 16, "int8": -6, "int16": 5, "int32": 4, "int64": -5, "float32": 7, "float64": 8, "decimal": 3,
    "number": 2, "string": 12, "bytes": -3, "bits": -7, "date": 91, "time": 92, "duration": 92, "timestamp": 93,
    "timestamp_tz": 2014, "time_tz": 2013, "array": 2003,
}  # fmt: skip
_OTHER = 1111


class _Topic:
    """One side topic: its schemas registered, frames waiting."""

    def __init__(self, log: EventLog, writer: LogWriter, name: str, key: dict[str, Any], value: dict[str, Any]) -> None:
        self.name = name
        writer.ensure_topics({name: 1})
        register = log.registry.register
        self._key = (wire.header(register(f"{name}-key", json.dumps(key))), fastavro.parse_schema(key))
        self._value = (wire.header(register(f"{name}-value", json.dumps(value))), fastavro.parse_schema(value))
        self._frames, self._count = BytesWriter(), 0

    def append(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        wire.put_frame(self._frames, _encode(*self._key, key), _encode(*self._value, value))
        self._count += 1

    def take(self) -> list[Batch]:
        if not self._count:
            return []
        batch = Batch(self.name, 0, self._count, self._frames.getvalue(), counted=False)
        self._frames, self._count = BytesWriter(), 0
        return [batch]


def _encode(header: bytes, schema: Any, value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(header)
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


class SideTopics:
    """Belongs to the stream's thread. `database`: what schema changes name as theirs."""

    def __init__(
        self,
        log: EventLog,
        writer: LogWriter,
        clock: Clock,
        engine: str,
        database: str,
        *,
        heartbeat_seconds: float,
        transactions: bool,
        truncates: bool,
    ) -> None:
        prefix = log.prefix
        self._clock, self._engine, self._database, self._prefix = clock, engine, database, prefix
        change_value = avro_side.schema_change_value(engine)
        self._changes = _Topic(log, writer, topic_name(prefix), avro_side.schema_change_key(engine), change_value)
        self._beats = _Topic(log, writer, heartbeat_topic(prefix), avro_side.HEARTBEAT_KEY, avro_side.HEARTBEAT_VALUE)
        self._boundaries = None
        if transactions:
            self._boundaries = _Topic(
                log, writer, transaction_topic(prefix), avro_side.TRANSACTION_KEY, avro_side.TRANSACTION_VALUE
            )
        self._truncates = truncates
        self._heartbeat_seconds = heartbeat_seconds
        self._beat_at = time.monotonic()

    def schema_change(self, feed: TableFeed, kind: str, position: str) -> None:
        """`kind`: CREATE for a table new to the log, ALTER after that. DDL text: what the source gave, none here."""
        now = time.time_ns()
        schema = feed.schema
        source = self._source(schema, now) | {"sequence": json.dumps([position])}
        database = source["db"]
        value = {
            "source": source,
            "ts_ms": now // 1_000_000,
            "databaseName": database,
            "schemaName": schema.table.schema if self._database else None,
            "ddl": None,
            "tableChanges": [_change(database, schema, kind)],
        }
        self._changes.append({"databaseName": database}, value)

    def truncate(self, feed: TableFeed, place: Mapping[str, Any]) -> None:
        """One event of op `t` where the table's records stand now: key null, no rows, no place in the numbers of its
        transaction. `place`: fields of `source` that the engine knows.
        Source: Debezium 3.6 documentation, PostgreSQL connector, "truncate events"."""
        if not self._truncates:
            return
        now = time.time_ns()
        value = {
            "source": self._source(feed.schema, now) | dict(place),
            "op": "t",
            "ts_ms": now // 1_000_000,
            "ts_us": now // 1000,
            "ts_ns": now,
        }
        avro = fastavro.parse_schema(value_schema(self._prefix, feed.schema))
        feed.buffer.append(None, _encode(wire.header(feed.value_id), avro, value))

    def _source(self, schema: TableSchema, now: int) -> dict[str, Any]:
        return {
            # A binary log is the whole server's: its databases are the namespaces of tables.
            "version": VERSION, "connector": self._engine, "name": self._prefix, "ts_ms": now // 1_000_000,
            "snapshot": "false", "db": self._database or schema.table.schema, "ts_us": now // 1000, "ts_ns": now,
            "schema": schema.table.schema, "table": schema.table.name, "server_id": 0, "file": "", "pos": 0, "row": 0,
        }  # fmt: skip

    def commit(self, transaction: Transaction) -> None:
        """BEGIN and END of a source transaction that had events of ours."""
        if self._boundaries is None:
            return
        counts = self._clock.counts_in_transaction()
        if not counts:
            return
        key = {"id": transaction.id}
        begin = {"status": "BEGIN", "id": transaction.id, "ts_ms": transaction.commit_ms}
        collections = [{"data_collection": name, "event_count": count} for name, count in counts]
        total = sum(count for _, count in counts)
        end = {**begin, "status": "END", "event_count": total, "data_collections": collections}
        self._boundaries.append(key, begin)
        self._boundaries.append(key, end)

    def beat_due(self) -> bool:
        """Append a heartbeat if one is due."""
        if not self._heartbeat_seconds or time.monotonic() - self._beat_at < self._heartbeat_seconds:
            return False
        self._beat_at = time.monotonic()
        self._beats.append({"serverName": self._prefix}, {"ts_ms": time.time_ns() // 1_000_000})
        return True

    def take(self) -> list[Batch]:
        topics = [self._changes, self._beats, *([self._boundaries] if self._boundaries else [])]
        return [batch for topic in topics for batch in topic.take()]


def _change(database: str, schema: TableSchema, kind: str) -> dict[str, Any]:
    if schema.engine == "postgresql":
        name = f'"{schema.table.schema}"."{schema.table.name}"'
    else:
        name = f'"{database}"."{schema.table.name}"'
    columns = [_column(n, column) for n, column in enumerate(schema.columns, 1)]
    return {"type": kind, "id": name, "table": {"primaryKeyColumnNames": list(schema.key), "columns": columns}}


def _column(position: int, column: Column) -> dict[str, Any]:
    type_ = column.type
    return {
        "name": column.name,
        "jdbcType": _JDBC.get(type_.kind, _OTHER),
        "typeName": column.native.partition("(")[0],
        "typeExpression": column.native,
        "length": type_.length if type_.length is not None else type_.precision,
        "scale": type_.scale,
        "position": position,
        "optional": column.nullable,
        "autoIncremented": False,
        "generated": column.generated,
        "enumValues": list(type_.labels) or None,
    }
