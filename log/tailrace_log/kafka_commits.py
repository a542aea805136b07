"""The commit topic as a reader sees it: read to its end, backwards in steps, or followed.

Offsets are not sequences: aborted records and the brokers' control records take offsets too. Each record carries the
ids of the topics it announces in a header, so that a topic that was deleted and made again is not taken for its
forerunner.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tailrace_log.kafka_errors import ErrorTrap
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.log import CommitRecord
from tailrace_schemas.errors import LOAD_AGAIN, LogUnavailableError, PositionLostError, StopError

TOPIC_IDS = "topic-ids"
FIRST_STEP = 256
BEYOND = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
# A topic just made, or whose leader moves: a client asks again (Kafka protocol guide, error codes, "retriable").
MOVING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_LEADER_EPOCH)
MOVING_SECONDS = 0.05
GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


@dataclass(frozen=True, slots=True)
class Entry:
    """A commit record, its offset in the commit topic, and the ids of the topics it announces."""

    offset: int
    record: CommitRecord
    topic_ids: dict[str, str]


class Commits:
    """One consumer of the commit topic, at one place at a time. Not thread-safe.

    `wait_ms`: how long a broker holds a fetch for which there is nothing; the end is told after that only, so it is
    short for looking up and long for following.
    """

    def __init__(self, settings: KafkaSettings, topic: str, wait_ms: int) -> None:
        self._settings, self._topic = settings, topic
        self._trap = ErrorTrap(settings)
        with self._trap.naming("read the Kafka settings"):
            self._consumer = Consumer(self._trap.config(settings.consumer() | {"fetch.wait.max.ms": wait_ms}))

    def bounds(self) -> tuple[int, int]:
        """First offset of the commit topic, and the one after the last that is visible."""
        return self.bounds_of(self._topic, 0)

    def bounds_of(self, topic: str, partition: int) -> tuple[int, int]:
        """As `bounds`, of any partition. librdkafka does not repeat this request by itself."""
        place, doing = TopicPartition(topic, partition), f"read the end of {topic}"
        deadline = time.monotonic() + self._settings.timeout_seconds
        while True:
            self._trap.clear()
            try:
                found = self._consumer.get_watermark_offsets(place, timeout=max(0.1, deadline - time.monotonic()))
            except KafkaException as exception:
                error = exception.args[0]
                if error.code() not in MOVING or time.monotonic() > deadline:
                    raise self._trap.named(error, doing) from exception
                time.sleep(MOVING_SECONDS)
                continue
            if found is None:
                raise LogUnavailableError(f"the end of {topic} could not be read")
            return found[0], found[1]

    def between(self, start: int, stop: int) -> list[Entry]:
        """All visible records with offsets in start..stop-1, in order."""
        if start >= stop:
            return []
        self.go_to(start)
        deadline = time.monotonic() + self._settings.timeout_seconds
        out: list[Entry] = []
        while (found := self.next(deadline - time.monotonic())) is not None:
            if isinstance(found, Entry):
                if found.offset < stop:
                    out.append(found)
                if found.offset >= stop - 1:
                    return out
            elif found >= stop:  # a follower may be behind: its end is not taken for the end
                return out
        raise LogUnavailableError(f"{self._topic} could not be read up to offset {stop}")

    def since(self, wanted: int | None) -> list[Entry]:
        """All records from the sequence `wanted` on, or from the last full load state on when it is None; more may
        precede them. The first one is later than `wanted` when that is gone."""
        low, stop = self.bounds()
        step, out = FIRST_STEP, list[Entry]()
        while low < stop:
            start = max(low, stop - step)
            out = self.between(start, stop) + out
            if any(e.record.load_full if wanted is None else e.record.seq <= wanted for e in out):
                break
            stop, step = start, 4 * step
        return out

    def last(self) -> Entry | None:
        low, stop = self.bounds()
        step = 8
        while low < stop:
            start = max(low, stop - step)
            if found := self.between(start, stop):
                return found[-1]
            stop, step = start, 4 * step
        return None

    def go_to(self, offset: int) -> None:
        with self._trap.naming(f"read {self._topic}"):
            self._consumer.assign([TopicPartition(self._topic, 0, offset)])

    def next(self, timeout: float) -> Entry | int | None:
        """The next record, or the offset of the end when that is reached, or None when time is over.

        Raises:
            PositionLostError: the place is gone (code OFFSET_LOST).
        """
        message = self._poll(max(timeout, 0))
        if message is None:
            return None
        error = message.error()
        if error is None:
            return _entry(message)
        if error.code() == KafkaError._PARTITION_EOF:
            return message.offset() or 0
        if error.code() in BEYOND + GONE:
            raise PositionLostError(
                f"commit records are gone from {self._topic}",
                code="OFFSET_LOST",
                detail=error.str(),
                hint=LOAD_AGAIN,
            )
        raise self._trap.named(error, f"read {self._topic}")

    def _poll(self, timeout: float) -> Message | None:
        with self._trap.naming(f"read {self._topic}"):
            return self._consumer.poll(timeout)

    def close(self) -> None:
        self._consumer.close()


def topic_ids_header(ids: dict[str, str]) -> list[tuple[str, str | bytes | None]]:
    return [(TOPIC_IDS, json.dumps(ids, separators=(",", ":")).encode())]


def _entry(message: Message) -> Entry:
    offset = message.offset() or 0
    try:
        record = CommitRecord.from_text(message.value() or b"")
        headers = dict(message.headers() or [])
        return Entry(offset, record, json.loads(headers.get(TOPIC_IDS) or b"{}"))
    except (ValueError, KeyError, TypeError) as error:
        raise StopError(
            f"offset {offset} of {message.topic()} is not a commit record that this version can read",
            code="LOG_VERSION",
            detail=f"{type(error).__name__}: {error}",
            hint="nothing else may write into that topic; a later version of Tailrace may have",
        ) from error
