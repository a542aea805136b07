"""The log in memory: the contract in its shortest form, for tests and for reading along."""

from __future__ import annotations

import threading
import time
import uuid

from tailrace_log.log import Batch, CommitRecord, DeadLetter, SchemaRegistry, announced
from tailrace_schemas.errors import FencedError, InvariantError, PositionLostError, StopError


class MemoryRegistry:
    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, str] = {}

    def register(self, subject: str, schema: str) -> int:
        known = self._ids.setdefault((subject, schema), len(self._ids) + 1)
        self._schemas[known] = schema
        return known

    def schema(self, schema_id: int) -> str:
        try:
            return self._schemas[schema_id]
        except KeyError:
            raise StopError(f"schema {schema_id} is not in the registry", code="UNKNOWN_SCHEMA") from None


class MemoryLog:
    """All in one process; `changed` wakes readers."""

    def __init__(self, prefix: str = "test", partitions: int = 1) -> None:
        self.log_id = str(uuid.uuid4())
        self.prefix = prefix
        self.partitions = partitions
        self.registry: SchemaRegistry = MemoryRegistry()
        self.changed = threading.Condition()
        self.records: list[CommitRecord] = []
        self.batches: dict[int, list[Batch]] = {}
        self.topics: dict[str, int] = {}
        self.next_offset: dict[tuple[str, int], int] = {}
        self.progress: dict[str, int] = {}
        self.dead_letters: dict[tuple[str, str, int, int], DeadLetter] = {}
        self.epoch = 0

    def writer(self, pipeline: str, sinks: list[str]) -> MemoryWriter:
        return MemoryWriter(self, pipeline, sinks)

    def reader(self) -> MemoryReader:
        return MemoryReader(self)

    def size_bytes(self) -> int:
        return sum(len(batch.frames) for batches in self.batches.values() for batch in batches)

    def close(self) -> None: ...


class MemoryWriter:
    def __init__(self, log: MemoryLog, pipeline: str, sinks: list[str]) -> None:
        self._log, self._pipeline, self._sinks = log, pipeline, sinks
        self._epoch = -1

    def open(self) -> list[CommitRecord]:
        log = self._log
        with log.changed:
            if log.records and log.records[-1].pipeline != self._pipeline:
                raise StopError(f"the log belongs to pipeline {log.records[-1].pipeline}", code="PREFIX_TAKEN")
            log.epoch += 1
            self._epoch = log.epoch
            for sink in self._sinks:
                log.progress.setdefault(sink, -1)
            full = max((n for n, record in enumerate(log.records) if record.load_full), default=0)
            return log.records[full:]

    def ensure_topics(self, partitions: dict[str, int]) -> None:
        for topic, count in partitions.items():
            if self._log.topics.setdefault(topic, count) != count:
                raise StopError(f"topic {topic} has another number of partitions", code="PARTITIONS_CHANGED")

    def write(self, batches: list[Batch], record: CommitRecord) -> CommitRecord:
        log = self._log
        with log.changed:
            if log.epoch != self._epoch:
                raise FencedError("another capture process has opened the log")
            if record.seq != len(log.records):
                raise InvariantError(f"commit record {record.seq} after {len(log.records) - 1}")
            firsts: dict[tuple[str, int], int] = {}
            for marker in record.markers:
                for partition in marker.at:
                    firsts[marker.topic, partition] = log.next_offset.get((marker.topic, partition), 0)
            for batch in batches:
                place = (batch.topic, batch.partition)
                firsts[place] = log.next_offset.get(place, 0)
                log.next_offset[place] = firsts[place] + batch.count
            written = announced(record, firsts, batches)
            log.records.append(written)
            log.batches[record.seq] = [batch for batch in batches if batch.counted and batch.count]
            log.changed.notify_all()
            return written

    def close(self) -> None: ...


class MemoryReader:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def last_seq(self) -> int:
        return len(self._log.records) - 1

    def commits(self, after: int, limit: int, timeout: float) -> list[CommitRecord]:
        deadline = time.monotonic() + timeout
        with self._log.changed:
            if after >= len(self._log.records):
                raise PositionLostError(f"the log ends before record {after}", code="OFFSET_LOST")
            while len(self._log.records) <= after + 1 and (left := deadline - time.monotonic()) > 0:
                self._log.changed.wait(left)
            return self._log.records[after + 1 : after + 1 + limit]

    def read(self, record: CommitRecord) -> list[Batch]:
        if record.seq not in self._log.batches:
            raise PositionLostError(f"record {record.seq} is gone", code="OFFSET_LOST")
        return self._log.batches[record.seq]

    def applied(self, sink: str, seq: int) -> None:
        self._log.progress[sink] = max(seq, self._log.progress.get(sink, -1))

    def set_aside(self, letters: list[DeadLetter]) -> None:
        for letter in letters:
            place = (letter.sink, letter.topic, letter.partition, letter.offset)
            self._log.dead_letters.setdefault(place, letter)

    def dead_letters(self) -> list[DeadLetter]:
        return list(self._log.dead_letters.values())

    def close(self) -> None: ...
