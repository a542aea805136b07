"""The EventLog contract: what capture writes atomically and what sinks read.

A *log transaction* is the records of many topic-partitions and one *commit record*; they become durable and visible
together (rule C1). Its commit record is the only truth about it: which offsets it announced, up to which source
position the log is complete, which transaction is still open across it, where truncates, reloads and schema changes
take effect, and how far the load has come (rules C2, C3). Records outside announced ranges do not exist for a sink.

One writer at a time: `open` fences any other, for ever. Readers are many, in any process. Three implementations pass
one contract suite (`tests/contract/test_log.py`): memory, embedded (SQLite) and Kafka.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

MarkerKind = Literal["truncate", "reload", "schema", "stopped"]
RecordKind = Literal["stream", "chunk", "abandon"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one topic-partition in one log transaction, in order: concatenated frames (`tailrace_schemas.wire`).

    `counted` is False for topics that commit records do not announce: schema changes, heartbeats, transactions.
    """

    topic: str
    partition: int
    count: int
    frames: bytes
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Range:
    """Announced offsets of one topic-partition, both ends included; `count` records of ours lie between."""

    topic: str
    partition: int
    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that takes effect between records of a topic.

    `at`: partition → offset; records of that partition below it come before the marker. On its way into `write` the
    numbers are counts of records in that log transaction's batch (0 = before the first); `write` makes them offsets.
    `data`: truncate: {} · reload: {} (the sink empties the table) · schema: {key_schema_id, value_schema_id} ·
    stopped: {code, message, remedy}.
    """

    kind: MarkerKind
    schema: str
    table: str
    topic: str
    at: dict[int, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A source transaction that goes on in later log transactions: its id, how many of its events are in the log
    already, and the sequence of the first record of its series (rule C3)."""

    id: str
    ordinals: int
    since: int


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """`load`: what this record changes in the state of the load, by table; complete when `load_full`
    (see `tailrace_capture.load_state`). `consistent`: from here on every record is a source commit boundary (rule D4).
    Times are epoch milliseconds: `source_ms` the commit time of the newest source transaction in it, `written_ms`
    ours. `since`: first record of the series that a record of kind `abandon` closes."""

    seq: int
    pipeline: str
    kind: RecordKind
    identity: dict[str, str]
    position: str
    open: OpenTransaction | None = None
    since: int | None = None
    ranges: tuple[Range, ...] = ()
    markers: tuple[Marker, ...] = ()
    load: dict[str, Any] = field(default_factory=dict)
    load_full: bool = False
    consistent: bool = False
    source_ms: int = 0
    written_ms: int = 0

    def to_text(self) -> str:
        return json.dumps(
            {
                "v": 1,
                "seq": self.seq,
                "pipeline": self.pipeline,
                "kind": self.kind,
                "identity": self.identity,
                "position": self.position,
                "open": None if self.open is None else [self.open.id, self.open.ordinals, self.open.since],
                "since": self.since,
                "ranges": [[r.topic, r.partition, r.first, r.last, r.count] for r in self.ranges],
                "markers": [
                    {"kind": m.kind, "table": [m.schema, m.table], "topic": m.topic, "at": m.at, "data": m.data}
                    for m in self.markers
                ],
                "load": self.load,
                "load_full": self.load_full,
                "consistent": self.consistent,
                "source_ms": self.source_ms,
                "written_ms": self.written_ms,
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_text(text: str | bytes) -> CommitRecord:
        """
        Raises:
            ValueError: written by a later version of the format.
        """
        data = json.loads(text)
        if data["v"] != 1:
            raise ValueError(f"commit record of format {data['v']}, this version reads 1")
        return CommitRecord(
            seq=data["seq"],
            pipeline=data["pipeline"],
            kind=data["kind"],
            identity=data["identity"],
            position=data["position"],
            open=None if data["open"] is None else OpenTransaction(*data["open"]),
            since=data["since"],
            ranges=tuple(Range(*r) for r in data["ranges"]),
            markers=tuple(
                Marker(
                    m["kind"],
                    m["table"][0],
                    m["table"][1],
                    m["topic"],
                    {int(p): o for p, o in m["at"].items()},
                    m["data"],
                )
                for m in data["markers"]
            ),
            load=data["load"],
            load_full=data["load_full"],
            consistent=data["consistent"],
            source_ms=data["source_ms"],
            written_ms=data["written_ms"],
        )


def announced(record: CommitRecord, firsts: dict[tuple[str, int], int], batches: list[Batch]) -> CommitRecord:
    """`record` with ranges and marker offsets filled in, given the offset at which each counted batch begins and, for
    partitions without a batch that a marker names, the next offset of the partition."""
    ranges = tuple(
        Range(b.topic, b.partition, firsts[b.topic, b.partition], firsts[b.topic, b.partition] + b.count - 1, b.count)
        for b in batches
        if b.counted and b.count
    )
    markers = tuple(replace(m, at={p: firsts[m.topic, p] + count for p, count in m.at.items()}) for m in record.markers)
    return replace(record, ranges=ranges, markers=markers)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that a target refused, and why. (sink, topic, partition, offset) names it for ever.

    `target`: the table there. `seq`: the commit record it lies in; `position`: the source position of the batch that
    was applied without it. `code`, `reason`: of the error, without values. `key`, `value`: the event as in its topic.
    """

    sink: str
    target: str
    topic: str
    partition: int
    offset: int
    seq: int
    position: str
    code: str
    reason: str
    key: bytes | None
    value: bytes | None


class LogWriter(Protocol):
    """The one writer of a pipeline's log. Not thread-safe: one thread uses it."""

    def open(self) -> list[CommitRecord]:
        """Fence every earlier writer, then return the records from the last complete load state (`load_full`) to the
        last record; empty for a new log. Nothing may be written before this returns.

        Raises:
            LogUnavailableError: try again.
            StopError: another pipeline's records are met (code PREFIX_TAKEN).
        """

    def ensure_topics(self, partitions: dict[str, int]) -> None:
        """Create the topics that do not exist, with the declared settings.

        Raises:
            StopError: a topic exists with another number of partitions (code PARTITIONS_CHANGED).
        """

    def write(self, batches: list[Batch], record: CommitRecord) -> CommitRecord:
        """One log transaction; returns the record with its ranges when everything is durable. `record.seq` must be one
        more than the last. At most one batch per topic-partition.

        Raises:
            FencedError: another writer has opened the log; nothing was written.
            LogUnavailableError: nothing was written; try again.
            OutcomeUnknownError: it may have been written; open again and look.
        """

    def close(self) -> None: ...


class LogReader(Protocol):
    """One sink's view. Not thread-safe."""

    def last_seq(self) -> int:
        """Sequence of the newest visible commit record, -1 for an empty log."""

    def commits(self, after: int, limit: int, timeout: float) -> list[CommitRecord]:
        """Up to `limit` records with sequence after+1, after+2 …; waits up to `timeout` seconds for the first.

        Raises:
            PositionLostError: after+1 is gone from the log (code OFFSET_LOST).
            LogUnavailableError: try again.
        """

    def read(self, record: CommitRecord) -> list[Batch]:
        """The announced records, one batch per range, in the record's order.

        Raises:
            StopError: a hole inside an announced range (code OFFSET_LOST).
            LogUnavailableError: try again.
        """

    def applied(self, sink: str, seq: int) -> None:
        """Tell the log that `sink` needs nothing up to and including `seq` any more (retention)."""

    def set_aside(self, letters: list[DeadLetter]) -> None:
        """Add to the dead-letter topic; durable when it returns. Never trimmed. A letter that is there already is left
        out; only in Kafka it may stand there twice, when the process died between writing and returning.

        Raises:
            LogUnavailableError: some may be written; the same letters again.
        """

    def dead_letters(self) -> list[DeadLetter]:
        """All of them, in the order of their coming.

        Raises:
            LogUnavailableError: try again.
        """

    def close(self) -> None: ...


class SchemaRegistry(Protocol):
    """Ids of Avro schemas, as in Confluent's registry: the same text under the same subject gives the same id."""

    def register(self, subject: str, schema: str) -> int:
        """
        Raises:
            StopError: refused as incompatible (code SCHEMA) or not registered where registering is off.
            LogUnavailableError: try again.
        """

    def schema(self, schema_id: int) -> str:
        """
        Raises:
            StopError: no such id (code UNKNOWN_SCHEMA).
            LogUnavailableError: try again.
        """


class EventLog(Protocol):
    """A place where one pipeline's log lives.

    `log_id` tells this log from one that was deleted and made again. `prefix` is the first part of all topic names.
    `partitions` is the number of partitions of a new data topic. `sinks` are registered for retention: records are
    kept until each of them has applied them.
    """

    log_id: str
    prefix: str
    partitions: int
    registry: SchemaRegistry

    def writer(self, pipeline: str, sinks: list[str]) -> LogWriter: ...

    def reader(self) -> LogReader: ...

    def size_bytes(self) -> int:
        """Bytes it takes on disk; -1 where it cannot tell (Kafka)."""

    def close(self) -> None: ...
