"""A reader of a Kafka log: follows the commit topic, and reads exactly the records that commit records announce.

Two consumers without a group, read committed: one of the commit topic, one of the data. What comes in early waits in
memory; a partition that runs far ahead of the others is paused.
"""

from __future__ import annotations

import logging
import time
from collections import deque

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tailrace_log.kafka_commits import BEYOND, GONE, Commits, Entry
from tailrace_log.kafka_errors import ErrorTrap
from tailrace_log.kafka_frames import Arrivals, sort_in
from tailrace_log.kafka_letters import Letters
from tailrace_log.kafka_progress import Groups, progress_group
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.kafka_topics import Topics
from tailrace_log.kafka_writer import LOOK_UP_MS
from tailrace_log.log import Batch, CommitRecord, DeadLetter, Range
from tailrace_schemas.errors import LOAD_AGAIN, LogUnavailableError, PositionLostError, StopError, TailraceError

log = logging.getLogger(__name__)

FOLLOW_MS = 500
AT_ONCE = 2000  # messages that are objects at one time
FAR_AHEAD_BYTES = 64 << 20
SKIP_RECORDS = 20_000  # a longer way to the next announced record is jumped, a shorter one read over
Place = tuple[str, int]


class KafkaReader:
    """`ignored`: how many records outside announced ranges were met."""

    def __init__(self, settings: KafkaSettings, topics: Topics, commit_topic: str, letter_topic: str) -> None:
        self._settings, self._topics, self._commit_topic = settings, topics, commit_topic
        self._letters = Letters(settings, topics, letter_topic)
        self._look_up = Commits(settings, commit_topic, LOOK_UP_MS)
        self._follow = Commits(settings, commit_topic, FOLLOW_MS)
        self._data = _Data(settings, topics)
        self._wanted: int | None = None  # sequence that `_follow` gives next, after those in `_ahead`
        self._ahead: deque[Entry] = deque()
        self._entries: dict[int, Entry] = {}  # given out and not applied yet
        self._groups = Groups(settings, commit_topic)
        self._applied: dict[str, int] = {}
        self._end_seen: tuple[int, int] | None = None

    @property
    def ignored(self) -> int:
        return self._data.ignored

    # ---- commit records

    def last_seq(self) -> int:
        end = self._look_up.bounds()[1]
        if self._end_seen is None or self._end_seen[0] != end:
            last = self._look_up.last()
            self._end_seen = (end, -1 if last is None else last.record.seq)
        return self._end_seen[1]

    def commits(self, after: int, limit: int, timeout: float) -> list[CommitRecord]:
        deadline = time.monotonic() + timeout
        self._groups.send()
        if self._wanted != after + 1:
            self._go_to(after + 1)
        out: list[Entry] = []
        while len(out) < limit:
            left = deadline - time.monotonic() if not out else 0
            entry = self._next_entry(left)
            if entry is None:
                if out or left <= 0:
                    break
                continue
            out.append(entry)
            self._wanted = entry.record.seq + 1
        self._entries |= {entry.record.seq: entry for entry in out}
        return [entry.record for entry in out]

    def _next_entry(self, timeout: float) -> Entry | None:
        """None also at the end of the topic, where the next call goes on waiting."""
        found = self._ahead.popleft() if self._ahead else self._follow.next(timeout)
        if not isinstance(found, Entry):
            return None
        if found.record.seq != self._wanted:
            wanted, self._wanted = self._wanted, None
            raise self._lost(f"commit record {found.record.seq} stands where {wanted} is due in {self._commit_topic}")
        return found

    def _go_to(self, seq: int) -> None:
        """Stand before the commit record `seq`, which may not be written yet."""
        self._wanted = None
        self._ahead.clear()
        found = self._look_up.since(seq)
        last = found[-1].record.seq if found else -1
        if seq > last + 1:
            raise self._lost(f"the log ends at commit record {last}, before {seq - 1}, which the target holds")
        self._ahead.extend(entry for entry in found if entry.record.seq >= seq)
        if seq <= last and self._ahead[0].record.seq != seq:
            raise self._lost(f"commit record {seq} is gone from {self._commit_topic}")
        self._follow.go_to(found[-1].offset + 1 if found else self._look_up.bounds()[0])
        self._wanted = seq

    def _lost(self, message: str) -> PositionLostError:
        return PositionLostError(message, code="OFFSET_LOST", hint=LOAD_AGAIN)

    # ---- data

    def read(self, record: CommitRecord) -> list[Batch]:
        entry = self._entries.get(record.seq)
        self._data.check_ids(record, {} if entry is None else entry.topic_ids)
        return self._data.read(record.ranges)

    # ---- progress

    def applied(self, sink: str, seq: int) -> None:
        """Kept as a committed offset; at most one a second is sent."""
        for old in [known for known in self._entries if known < seq]:
            del self._entries[old]
        if seq <= self._applied.get(sink, -1):
            return
        try:
            entry = self._entries.get(seq) or next((e for e in self._look_up.since(seq) if e.record.seq == seq), None)
        except TailraceError as error:
            log.warning("progress not noted in the log", extra={"sink": sink, "error": str(error)})
            return
        if entry is not None:
            self._applied[sink] = seq
            self._groups[progress_group(entry.record.pipeline, sink)].commit(entry.offset + 1)

    # ---- dead letters

    def set_aside(self, letters: list[DeadLetter]) -> None:
        self._letters.write(letters)

    def dead_letters(self) -> list[DeadLetter]:
        return self._letters.read()

    def close(self) -> None:
        for part in (self._groups, self._look_up, self._follow, self._data):
            part.close()


class _Data:
    """The consumer of data topics."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings, self._topics = settings, topics
        self._trap = ErrorTrap(settings)
        with self._trap.naming("read the Kafka settings"):
            self._consumer = Consumer(self._trap.config(settings.consumer()))
        self._partitions: dict[Place, Arrivals] = {}
        self._ids: dict[str, str] = {}
        self.ignored = 0

    def check_ids(self, record: CommitRecord, ids: dict[str, str]) -> None:
        """
        Raises:
            PositionLostError: a topic is not the one that the record was written to (code OFFSET_LOST).
        """
        if new := [topic for topic in ids if topic not in self._ids]:
            self._ids |= {name: topic.id for name, topic in self._topics.describe(new).items()}
        for topic, known in ids.items():
            if self._ids.get(topic) != known:
                del self._ids[topic]
                raise PositionLostError(
                    f"topic {topic} is not the one that commit record {record.seq} was written to",
                    code="OFFSET_LOST",
                    detail="it was deleted and made again",
                    hint=LOAD_AGAIN,
                )

    def read(self, ranges: tuple[Range, ...]) -> list[Batch]:
        self._trap.clear()
        for announced in ranges:
            self._point_to(announced)
        missing = {(r.topic, r.partition): r.last for r in ranges}
        deadline = time.monotonic() + self._settings.timeout_seconds
        while missing := {p: last for p, last in missing.items() if self._partitions[p].position <= last}:
            self._resume(missing)
            if not self._fetch(deadline - time.monotonic()) and time.monotonic() > deadline:
                raise self._trap.late(f"read {len(missing)} partitions that a commit record announces")
            self._pause_runaways(missing)
        return [self._take(announced) for announced in ranges]

    def _point_to(self, announced: Range) -> None:
        """Let the consumer deliver the range next: from where it is, or by beginning there."""
        place = (announced.topic, announced.partition)
        known = self._partitions.get(place)
        if known is not None and known.first <= announced.first <= known.position + SKIP_RECORDS:
            return
        where = TopicPartition(announced.topic, announced.partition, announced.first)
        with self._trap.naming(f"read topic {announced.topic}"):
            if known is not None:
                self._consumer.incremental_unassign([where])
            self._consumer.incremental_assign([where])
        self._partitions[place] = Arrivals(announced.first)

    def _fetch(self, timeout: float) -> bool:
        """Take in what has come, waiting for the first of it only; False for nothing."""
        with self._trap.naming("read the log"):
            first = self._consumer.poll(max(0, timeout))
            if first is None:
                return False
            # A timeout here would be waited out to its end unless so many have come.
            messages = [first, *self._consumer.consume(AT_ONCE, 0)]
        for message in sort_in(messages, self._partitions):
            self._take_in_error(message)
        return True

    def _take_in_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        place = (message.topic() or "", message.partition() or 0)
        if error.code() == KafkaError._PARTITION_EOF:
            if place in self._partitions:
                self._partitions[place].position = max(self._partitions[place].position, message.offset() or 0)
        elif error.code() in BEYOND + GONE:
            raise PositionLostError(
                f"records of topic {place[0]} partition {place[1]} that a commit record announces are gone",
                code="OFFSET_LOST",
                detail=error.str(),
                hint=f"{LOAD_AGAIN}; keep data topics longer than a sink may stand still (retention.ms)",
            )
        else:
            named = self._trap.named(error, f"read topic {place[0]}")
            if not isinstance(named, LogUnavailableError):
                raise named  # others pass; the deadline decides

    def _take(self, announced: Range) -> Batch:
        arrived = self._partitions[announced.topic, announced.partition]
        frames, count, passed = arrived.take(announced.first, announced.last)
        self.ignored += passed
        if count != announced.count:
            raise StopError(
                f"{announced.count - count} of {announced.count} records are missing between offsets"
                f" {announced.first} and {announced.last} of topic {announced.topic} partition {announced.partition}",
                code="OFFSET_LOST",
                hint=f"{LOAD_AGAIN}; data topics must not be compacted",
            )
        return Batch(announced.topic, announced.partition, count, frames)

    def _pause_runaways(self, needed: dict[Place, int]) -> None:
        far = [p for p, part in self._partitions.items() if not part.paused and part.size > FAR_AHEAD_BYTES]
        if far := [place for place in far if place not in needed]:
            self._consumer.pause([TopicPartition(*place) for place in far])
            for place in far:
                self._partitions[place].paused = True

    def _resume(self, needed: dict[Place, int]) -> None:
        if paused := [place for place in needed if self._partitions[place].paused]:
            self._consumer.resume([TopicPartition(*place) for place in paused])
            for place in paused:
                self._partitions[place].paused = False

    def close(self) -> None:
        self._consumer.close()
