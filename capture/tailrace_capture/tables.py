"""The captured tables of one run: schemas registered, topics made, one buffer each."""

from __future__ import annotations

import json
from collections.abc import Callable

from tailrace_capture.source import TableFeed
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_log.log import Batch, EventLog, LogWriter
from tailrace_schemas.avro import key_schema, table_of, value_schema
from tailrace_schemas.position import Position
from tailrace_schemas.table import TableId, TableSchema
from tailrace_schemas.topic import data_topic


class TableRegister:
    """`feeds`: tables by id, without the stopped ones."""

    def __init__(
        self, log: EventLog, writer: LogWriter, clock: Clock, parse: Callable[[str], Position], key_bytes: bool = False
    ) -> None:
        self._log, self._writer, self._clock, self.parse = log, writer, clock, parse
        self._key_bytes = key_bytes
        self.feeds: dict[TableId, TableFeed] = {}
        self._buffers: dict[TableId, TopicBuffer] = {}

    def announced(self, value_id: int) -> TableSchema:
        """The description that the log announced under this schema id."""
        return table_of(self._log.registry.schema(value_id))

    def describe(self, schema: TableSchema, layout: str) -> TableFeed:
        """Register `schema` as the table's present one, and return the table's feed."""
        prefix, table = self._log.prefix, schema.table
        topic = self.topic(table)
        registry = self._log.registry
        value_id = registry.register(f"{topic}-value", json.dumps(value_schema(prefix, schema), ensure_ascii=False))
        key = key_schema(prefix, schema)
        key_id = 0 if key is None else registry.register(f"{topic}-key", json.dumps(key, ensure_ascii=False))
        buffer = self._buffer(table, topic, not schema.key)
        feed = TableFeed(schema, topic, key_id, value_id, buffer, layout)
        buffer.table = feed
        self.feeds[table] = feed
        return feed

    def _buffer(self, table: TableId, topic: str, keyless: bool) -> TopicBuffer:
        buffer = self._buffers.get(table)
        if buffer is None:
            partitions = self._log.partitions
            self._writer.ensure_topics({topic: partitions})
            buffer = TopicBuffer(topic, partitions, keyless, self._clock, None, self._key_bytes)
            self._buffers[table] = buffer
        buffer.set_keyless(keyless)
        return buffer

    def topic(self, table: TableId) -> str:
        return data_topic(self._log.prefix, table)

    def stop(self, table: TableId) -> None:
        self.feeds.pop(table, None)

    @property
    def bytes_waiting(self) -> int:
        return int(self._clock.size)

    def take(self, before_transaction: bool = False) -> list[Batch]:
        """Everything appended (or, of that, what stands before the current transaction), one batch per partition."""
        return [Batch(*part) for part in self._clock.take(before_transaction)]
