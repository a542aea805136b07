"""Events for sink tests, encoded with fastavro, so that what a sink reads was not written by our own codecs.

`Stream` stands where capture would: it registers schemas, writes events into an EventLog and closes log transactions.
Values are given as Avro has them (days, microseconds, Decimal …), by column name; a column left out is null.
"""

import io
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import fastavro
from librt.strings import BytesWriter

from tailrace_log.log import Batch, CommitRecord, EventLog, Marker, OpenTransaction
from tailrace_schemas import avro
from tailrace_schemas.table import Column, TableId, TableSchema
from tailrace_schemas.topic import data_topic
from tailrace_schemas.types import BYTES, INT32, INT64, STRING, LogicalType
from tailrace_schemas.wire import header, murmur2, put_frame, put_frame_with_header

Row = dict[str, Any]


def column(name: str, type_: LogicalType = INT32, native: str = "integer", **more: Any) -> Column:
    return Column(name, type_, native, **more)


def table(
    name: str,
    *columns: Column,
    key: tuple[str, ...] = ("id",),
    engine: Any = "postgresql",
    schema: str = "shop",
    **more: Any,
) -> TableSchema:
    return TableSchema(engine, TableId(schema, name), columns, key, **more)


ITEMS = table(
    "items",
    column("id", INT64, "bigint", nullable=False),
    column("name", STRING, "text"),
    column("email", STRING, "text"),
    column("picture", BYTES, "bytea"),
)


class Encoder:
    """One table's key and value as Confluent-framed Avro."""

    def __init__(self, log: EventLog, schema: TableSchema) -> None:
        self.schema = schema
        self.topic = data_topic(log.prefix, schema.table)
        value = avro.value_schema(log.prefix, schema)
        key = avro.key_schema(log.prefix, schema)
        self.value_id = log.registry.register(f"{self.topic}-value", json.dumps(value))
        self.key_id = 0 if key is None else log.registry.register(f"{self.topic}-key", json.dumps(key))
        self._value = fastavro.parse_schema(value)
        self._key = None if key is None else fastavro.parse_schema(key)
        self._names = dict(zip((c.name for c in schema.columns), avro.field_names(schema.columns), strict=True))

    def key(self, row: Row) -> bytes | None:
        if self._key is None:
            return None
        return self._framed(self.key_id, self._key, {self._names[name]: row[name] for name in self.schema.key})

    def value(
        self,
        op: str,
        before: Row | None,
        after: Row | None,
        *,
        unavailable: list[str] | None = None,
        exact: dict[str, str] | None = None,
        transaction: tuple[str, int] | None = None,
        pos: int = 4,
    ) -> bytes:
        block = None if transaction is None else {"id": transaction[0], "total_order": transaction[1]}
        event = {
            "before": self._row(before),
            "after": self._row(after),
            "source": self._source(pos),
            "transaction": None if block is None else {**block, "data_collection_order": 1},
            "op": op,
            "ts_ms": 1_700_000_000_123,
            "ts_us": 1_700_000_000_123_456,
            "ts_ns": 1_700_000_000_123_456_789,
            "unavailable_columns": unavailable,
            "exact_values": exact,
        }
        return self._framed(self.value_id, self._value, event)

    def _row(self, row: Row | None) -> Row | None:
        if row is None:
            return None
        return {self._names[c.name]: row.get(c.name) for c in self.schema.columns}

    def _source(self, pos: int) -> Row:
        common = {
            "version": "1",
            "connector": self.schema.engine,
            "name": "test",
            "ts_ms": 1,
            "snapshot": "false",
            "db": "d",
        }
        if self.schema.engine == "postgresql":
            return {**common, "schema": self.schema.table.schema, "table": self.schema.table.name, "lsn": 77}
        return {
            **common,
            "table": self.schema.table.name,
            "server_id": 1,
            "file": "binlog.000003",
            "pos": pos,
            "row": 0,
        }

    @staticmethod
    def _framed(schema_id: int, schema: Any, data: Row) -> bytes:
        out = io.BytesIO()
        out.write(header(schema_id))
        fastavro.schemaless_writer(out, schema, data, strict=False)
        return out.getvalue()


class Partitions:
    """Frames of one topic that wait for the next log transaction."""

    def __init__(self, topic: str, count: int, keyless: bool) -> None:
        self.topic = topic
        self._keyless = keyless
        self._writers = [BytesWriter() for _ in range(count)]
        self.counts = [0] * count

    def append(self, key: bytes | None, value: bytes | None, new_key: bytes | None = None) -> None:
        partition = 0 if self._keyless or key is None else murmur2(key, 5) % len(self._writers)
        if new_key is None:
            put_frame(self._writers[partition], key, value)
        else:
            put_frame_with_header(self._writers[partition], key, value, b"__debezium.newkey", new_key)
        self.counts[partition] += 1

    def take(self) -> list[Batch]:
        taken = zip(self._writers, self.counts, strict=True)
        out = [Batch(self.topic, n, count, w.getvalue()) for n, (w, count) in enumerate(taken) if count]
        self._writers = [BytesWriter() for _ in self._writers]
        self.counts = [0] * len(self._writers)
        return out


class Stream:
    """Writes log transactions. Events gather until `commit`, `chunk` or `open_part` closes one."""

    def __init__(self, log: EventLog, pipeline: str = "shop") -> None:
        self.log = log
        self.pipeline = pipeline
        self.writer = log.writer(pipeline, ["replica"])
        records = self.writer.open()
        self.seq = records[-1].seq + 1 if records else 0
        self.lsn = 0x1000 + self.seq
        self.encoders: dict[TableSchema, Encoder] = {}
        self._buffers: dict[str, Partitions] = {}
        self._markers: list[Marker] = []
        self._ordinal = 0

    def encoder(self, schema: TableSchema) -> Encoder:
        if schema not in self.encoders:
            self.encoders[schema] = Encoder(self.log, schema)
        return self.encoders[schema]

    def buffer(self, schema: TableSchema) -> Partitions:
        encoder = self.encoder(schema)
        if encoder.topic not in self._buffers:
            self.writer.ensure_topics({encoder.topic: self.log.partitions})
            self._buffers[encoder.topic] = Partitions(encoder.topic, self.log.partitions, not schema.key)
        return self._buffers[encoder.topic]

    def event(
        self,
        schema: TableSchema,
        op: str,
        before: Row | None,
        after: Row | None,
        *,
        new_key: bytes | None = None,
        **more: Any,
    ) -> None:
        encoder = self.encoder(schema)
        key = encoder.key(before if op == "d" else after)  # type: ignore[arg-type]
        if op != "r":
            self._ordinal += 1
            more.setdefault("transaction", (self.transaction_id(schema), self._ordinal))
            more.setdefault("pos", self.lsn)
        self.buffer(schema).append(key, encoder.value(op, before, after, **more), new_key)

    def transaction_id(self, schema: TableSchema) -> str:
        return f"7:{0:X}/{self.lsn:X}" if schema.engine == "postgresql" else f"uuid:{self.lsn}"

    def insert(self, schema: TableSchema, **row: Any) -> None:
        self.event(schema, "c", None, row)

    def load(self, schema: TableSchema, rows: Iterable[Row]) -> None:
        for row in rows:
            self.event(schema, "r", None, row)

    def update(self, schema: TableSchema, before: Row | None = None, /, **after: Any) -> None:
        self.event(schema, "u", before, after)

    def delete(self, schema: TableSchema, **row: Any) -> None:
        self.event(schema, "d", row, None)
        if schema.key:
            self.buffer(schema).append(self.encoder(schema).key(row), None)

    def rekey(self, schema: TableSchema, before: Row, after: Row) -> None:
        """A key change: delete, tombstone, create."""
        encoder = self.encoder(schema)
        self.event(schema, "d", before, None, new_key=encoder.key(after))
        self.buffer(schema).append(encoder.key(before), None)
        self.event(schema, "c", None, after)

    def mark(self, kind: Any, schema: TableSchema, **data: Any) -> None:
        encoder = self.encoder(schema)
        at = dict(enumerate(self.buffer(schema).counts))
        self._markers.append(Marker(kind, schema.table.schema, schema.table.name, encoder.topic, at, data))

    def schema_change(self, schema: TableSchema, **data: Any) -> None:
        encoder = self.encoder(schema)
        self.mark("schema", schema, key_schema_id=encoder.key_id, value_schema_id=encoder.value_id, **data)

    def commit(self, **more: Any) -> CommitRecord:
        """Close a log transaction at a source commit."""
        return self._write(
            CommitRecord(self.seq, self.pipeline, "stream", {}, f"lsn:0/{self.lsn:X}", consistent=True), more
        )

    def chunk(self, **more: Any) -> CommitRecord:
        return self._write(self._record("chunk"), more)

    def open_part(self, since: int, **more: Any) -> CommitRecord:
        """Close a log transaction inside a source transaction whose series began at `since`."""
        opened = OpenTransaction("9:0/9", self._ordinal, since)
        return self._write(
            CommitRecord(self.seq, self.pipeline, "stream", {}, f"lsn:0/{self.lsn:X}", open=opened), more
        )

    def abandon(self, since: int, **more: Any) -> CommitRecord:
        return self._write(self._record("abandon", since=since), more)

    def _record(self, kind: Any, **more: Any) -> CommitRecord:
        return CommitRecord(self.seq, self.pipeline, kind, {}, f"lsn:0/{self.lsn:X}", **more)

    def _write(self, record: CommitRecord, more: dict[str, Any]) -> CommitRecord:
        batches = [batch for partitions in self._buffers.values() for batch in partitions.take()]
        now = int(time.time() * 1000)
        record = replace(record, markers=tuple(self._markers), source_ms=now, written_ms=now, **more)
        self._markers = []
        written = self.writer.write(batches, record)
        self.seq += 1
        self.lsn += 1
        self._ordinal = 0
        return written
