"""The writer of a Kafka log: one Kafka transaction per log transaction (rules C1, C2).

Its parts in order: the records of all topics, their delivery reports, then the commit record that announces the
offsets, then the commit. A transactional id per prefix fences every earlier writer in the broker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Never

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tailrace_log.kafka_commits import Commits, Entry, topic_ids_header
from tailrace_log.kafka_errors import ErrorTrap
from tailrace_log.kafka_frames import produce_frames
from tailrace_log.kafka_progress import Groups, progress_group
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.kafka_topics import Topic, Topics
from tailrace_log.log import Batch, CommitRecord, announced
from tailrace_schemas.errors import (
    FencedError,
    InvariantError,
    LogUnavailableError,
    OutcomeUnknownError,
    StopError,
    TailraceError,
)
from tailrace_schemas.failpoint import failpoint

log = logging.getLogger(__name__)

LOOK_UP_MS = 5
TRIM_AGAIN_SECONDS = 60.0
LONGEST_TRANSACTION_MS = 300_000  # librdkafka takes its socket timeout from it, and has no longer one
Place = tuple[str, int]


class Patience:
    """How long a log transaction of one log may take, over all its writers.

    Rule C1 wants it short: a writer that is dead and has no successor holds readers of committed records that long (a
    successor ends its transaction at once). But what a slow line cannot carry in that time would be tried in vain for
    ever; so each time one fails after more than half of it, the next producer gets twice as much.
    """

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = self._least = milliseconds
        self._most = max(milliseconds, LONGEST_TRANSACTION_MS)

    def failed(self, seconds: float) -> bool:
        """After a log transaction that failed in this time; true when the next one may take longer."""
        grows = seconds * 2000 > self.milliseconds and self.milliseconds < self._most
        if grows:
            self.milliseconds = min(2 * self.milliseconds, self._most)
        return grows

    def succeeded(self, seconds: float) -> None:
        if seconds * 2000 < self._least:
            self.milliseconds = self._least

    def refused(self) -> bool:
        """The brokers allow no such timeout (their transaction.max.timeout.ms); true when a shorter one is left."""
        shorter = max(self._least, self.milliseconds // 2)
        smaller = shorter < self.milliseconds
        self.milliseconds = self._most = shorter
        return smaller


class KafkaWriter:
    """`commit_topic` exists. What it knows of the log holds until `open` or an error says otherwise."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Topics,
        commit_topic: str,
        pipeline: str,
        sinks: list[str],
        patience: Patience,
    ) -> None:
        self._settings, self._topics, self._commit_topic = settings, topics, commit_topic
        self._patience = patience
        self._pipeline, self._sinks = pipeline, sinks
        self._trap = ErrorTrap(settings)
        self._commits = Commits(settings, commit_topic, LOOK_UP_MS)
        self._groups = Groups(settings, commit_topic)
        self._producer: Producer | None = None
        self._known: dict[str, Topic] = {}
        self._next: dict[Place, int] = {}
        self._last_seq = -1
        self._last_offset = self._full_offset = -1  # of the last commit record, and of the last full load state
        self._trim_at = time.monotonic() + settings.trim_seconds
        self._trimmed_to = 0
        self._explain = False  # ask for every delivery report: the last log transaction failed without a reason

    # ---- opening

    def open(self) -> list[CommitRecord]:
        self._drop_producer()
        self._refuse_foreign(self._commits.last())  # before fencing: the owner must not suffer from a mistake
        producer = self._new_producer()
        entries = self._commits.since(None)
        self._refuse_foreign(entries[-1] if entries else None)
        full = max((n for n, entry in enumerate(entries) if entry.record.load_full), default=0)
        entries = entries[full:]
        self._last_seq = entries[-1].record.seq if entries else -1
        self._last_offset = entries[-1].offset if entries else -1
        self._full_offset = entries[0].offset if entries else -1
        self._known, self._next = {}, {}
        for entry in entries:
            self._next |= {(r.topic, r.partition): r.last + 1 for r in entry.record.ranges}
        self._producer = producer
        return [entry.record for entry in entries]

    def _refuse_foreign(self, entry: Entry | None) -> None:
        if entry is not None and entry.record.pipeline != self._pipeline:
            raise StopError(
                f"the topics {self._settings.prefix}.* belong to pipeline {entry.record.pipeline}",
                code="PREFIX_TAKEN",
                hint="give this pipeline another prefix= in the log's URI",
            )

    def _new_producer(self) -> Producer:
        """One that has fenced all others: their open transactions are over when this returns (rule C1)."""
        self._trap.clear()
        settings = replace(self._settings, transaction_timeout_ms=self._patience.milliseconds)
        with self._trap.naming("open the log for writing"):
            producer = Producer(self._trap.config(settings.producer()))
            try:
                _until(settings.timeout_seconds, producer.init_transactions)
            except KafkaException as error:
                producer.purge()
                if error.args[0].code() == KafkaError.INVALID_TRANSACTION_TIMEOUT and self._patience.refused():
                    return self._new_producer()
                raise
        return producer

    def _drop_producer(self) -> None:
        """Nothing it still holds may be sent."""
        if self._producer is not None:
            self._producer.purge()
        self._producer = None

    # ---- topics

    def ensure_topics(self, partitions: dict[str, int]) -> None:
        for name, known in self._known.items():
            if partitions.get(name, known.partitions) != known.partitions:
                self._known.pop(name)  # described again, and refused there
                break
        new = {name: count for name, count in partitions.items() if name not in self._known}
        if new:
            self._known |= self._topics.ensure(new, self._settings.data_topic())

    def _check_places(self, places: list[Place]) -> None:
        """Topics exist before the transaction begins: one made inside it would get the broker's defaults."""
        unknown = {topic for topic, _ in places if topic not in self._known}
        self._known |= self._topics.describe(unknown)
        for topic, partition in places:
            if topic not in self._known or not 0 <= partition < self._known[topic].partitions:
                raise InvariantError(f"partition {partition} of topic {topic} was not made by ensure_topics")

    # ---- writing

    def write(self, batches: list[Batch], record: CommitRecord) -> CommitRecord:
        producer = self._producer
        if producer is None:
            raise InvariantError("write without open: the outcome of the last log transaction is not known")
        if record.seq != self._last_seq + 1:
            raise InvariantError(f"commit record {record.seq} after {self._last_seq}")
        batches = [batch for batch in batches if batch.count]
        places = [(batch.topic, batch.partition) for batch in batches]
        if len(set(places)) != len(places):
            raise InvariantError("two batches of one topic-partition in a log transaction")
        marked = [(marker.topic, partition) for marker in record.markers for partition in marker.at]
        self._check_places(places + marked)
        self._trap.clear()
        began = time.monotonic()
        try:
            with self._trap.naming("write to the log"):
                producer.begin_transaction()
                sent = self._send(producer, batches)
                failpoint("log.records_sent")
                firsts = sent | self._ends([p for p in marked if p not in places])
                written = announced(record, firsts, batches)
                offset = self._send_record(producer, written)
        except (TailraceError, ValueError) as error:
            self._abort(producer, error, reopen=self._patience.failed(time.monotonic() - began))
        failpoint("log.before_commit")
        try:
            self._commit(producer)
        except TailraceError as error:
            if self._patience.failed(time.monotonic() - began) and isinstance(error, FencedError):
                raise self._too_late(error) from error
            raise
        self._patience.succeeded(time.monotonic() - began)
        self._remember(written, offset)
        return written

    def _send(self, producer: Producer, batches: list[Batch]) -> dict[Place, int]:
        """Produce all and wait for the reports; where each batch begins.

        Raises:
            LogUnavailableError: not all were delivered, or a foreign record came between ours.
        """
        reports = _Reports()
        for batch in batches:
            sent = produce_frames(
                producer.produce, producer.poll, batch.topic, batch.partition, batch.frames, reports, self._explain
            )
            if sent != batch.count:
                raise InvariantError(f"a batch of {sent} records says it has {batch.count}")
        seconds = max(self._settings.timeout_seconds, self._patience.milliseconds / 1000)
        left = producer.flush(seconds)
        if reports.error is not None:
            raise self._trap.named(reports.error, "write to the log")
        if left:
            raise LogUnavailableError(f"{left} records were not delivered in {seconds} s")
        self._explain = False
        return {(b.topic, b.partition): self._first(b, reports) for b in batches}

    def _first(self, batch: Batch, reports: _Reports) -> int:
        """Offset of the first record, when all lie behind each other from there on.

        The idempotent producer keeps the order inside a partition, so first and last report bound all others; if their
        distance is the count, every offset between them is ours and delivered.
        """
        place = (batch.topic, batch.partition)
        if place not in reports.offsets:
            self._explain = True
            raise LogUnavailableError(f"the delivery of {batch.count} records to {batch.topic} was not reported")
        first, last = min(reports.offsets[place]), max(reports.offsets[place])
        if first < 0 or last - first + 1 != batch.count:
            # Another producer wrote between them, or the broker knows a retried batch but not its offset.
            raise LogUnavailableError(
                f"records of {batch.topic} partition {batch.partition} do not lie behind each other: {first} to {last}"
                f" for {batch.count}",
                hint="nothing else should write into that topic",
            )
        if first < self._next.get(place, 0):
            raise StopError(
                f"topic {batch.topic} has lost records: partition {batch.partition} goes on at offset {first},"
                f" {self._next[place]} was expected",
                code="OFFSET_LOST",
                hint="the topic was deleted and made again, or restored: load its table again under another prefix",
            )
        return first

    def _ends(self, places: list[Place]) -> dict[Place, int]:
        """An offset after all records so far, of partitions that a marker names and this log transaction does not
        write to. Those not written since the last full load state may hold earlier records."""
        return {p: self._next[p] if p in self._next else self._commits.bounds_of(*p)[1] for p in places}

    def _send_record(self, producer: Producer, record: CommitRecord) -> int:
        reports = _Reports()
        ids = {r.topic: self._known[r.topic].id for r in record.ranges}
        producer.produce(self._commit_topic, record.to_text(), None, 0, reports, headers=topic_ids_header(ids))
        left = producer.flush(self._settings.timeout_seconds)
        if reports.error is not None:
            raise self._trap.named(reports.error, "write the commit record")
        [offsets] = reports.offsets.values() or [[-1]]
        if left or offsets[0] < 0:
            raise LogUnavailableError("the delivery of the commit record was not reported")
        return offsets[0]

    def _remember(self, written: CommitRecord, offset: int) -> None:
        self._last_seq, self._last_offset = written.seq, offset
        if written.load_full or self._full_offset < 0:
            self._full_offset = offset
        self._next |= {(r.topic, r.partition): r.last + 1 for r in written.ranges}
        if self._sinks and time.monotonic() >= self._trim_at:
            self._trim()

    # ---- the end of a transaction

    def _abort(self, producer: Producer, cause: TailraceError | ValueError, *, reopen: bool = False) -> Never:
        """Take the transaction back, then raise `cause`, or that the log must be opened again; `reopen`: it must, to
        give the same log transaction more time."""
        late = reopen and isinstance(cause, LogUnavailableError | FencedError)
        if isinstance(cause, FencedError):
            self._drop_producer()
        else:
            try:
                with self._trap.naming("take back a log transaction"):
                    _until(self._settings.timeout_seconds, producer.abort_transaction)
            except TailraceError as error:
                self._drop_producer()
                if isinstance(error, FencedError) and not late:
                    raise error from cause
                if isinstance(cause, LogUnavailableError) and not late:
                    # The broker ends the transaction itself when its time is over; only open() waits for that.
                    raise OutcomeUnknownError(cause.message, detail=f"{cause.detail}; {error.message}") from cause
        if late:
            raise self._too_late(cause) from cause
        raise cause

    def _too_late(self, cause: TailraceError | ValueError) -> OutcomeUnknownError:
        """The brokers end a transaction whose time is over, and fence its producer as they would for another one."""
        self._drop_producer()
        seconds = self._patience.milliseconds // 1000
        return OutcomeUnknownError(
            f"a log transaction was not written in time; the next one may take {seconds} s",
            detail=str(cause),
            hint="a faster line to the brokers, or fewer bytes: kafka: {compression.type: zstd}",
        )

    def _commit(self, producer: Producer) -> None:
        try:
            with self._trap.naming("commit a log transaction"):
                _until(self._settings.timeout_seconds, producer.commit_transaction)
        except TailraceError as error:
            reason = error.__cause__
            if isinstance(reason, KafkaException) and reason.args[0].txn_requires_abort():
                self._explain = True
                self._abort(producer, error)
            self._drop_producer()
            if isinstance(error, FencedError):
                raise
            raise OutcomeUnknownError("the outcome of a log transaction is not known", detail=error.detail) from error

    # ---- retention

    def _trim(self) -> None:
        """Rule C4: commit records below the slowest sink go, but never the last one nor what `open` has to return."""
        self._trim_at = time.monotonic() + self._settings.trim_seconds
        try:
            slowest = self._groups.slowest([progress_group(self._pipeline, sink) for sink in self._sinks])
            before = min(slowest or 0, self._last_offset, self._full_offset)
            if before > self._trimmed_to:
                self._topics.delete_before(self._commit_topic, before)
                self._trimmed_to = before
        except TailraceError as error:
            # Only space is lost; writing must not wait for it again soon.
            self._trim_at = time.monotonic() + max(self._settings.trim_seconds, TRIM_AGAIN_SECONDS)
            log.warning("commit topic not trimmed", extra={"topic": self._commit_topic, "error": str(error)})

    def close(self) -> None:
        self._drop_producer()
        self._commits.close()
        self._groups.close()


class _Reports:
    """Delivery reports of one log transaction: offsets by place in the order of delivery, and the first error."""

    def __init__(self) -> None:
        self.offsets: dict[Place, list[int]] = {}
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            # Purged ones say nothing about why.
            if self.error is None or self.error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
                self.error = error
            return
        offset = message.offset()
        place = (message.topic() or "", message.partition() or 0)
        self.offsets.setdefault(place, []).append(-1 if offset is None else offset)


def _until(seconds: float, call: Callable[[float], None]) -> None:
    """Repeat `call` while it says that the same may be tried again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            call(max(0.1, deadline - time.monotonic()))
        except KafkaException as exception:
            if not exception.args[0].retriable() or time.monotonic() >= deadline:
                raise
        else:
            return
