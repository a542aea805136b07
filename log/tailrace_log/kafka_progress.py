"""How far each sink has come, kept as the offset that a group has committed in the commit topic. A hint for trimming:
what counts is stored at the target.

By consumers, not by the admin client: its group requests wait for ever once a broker was lost, and can end the process
(librdkafka 2.16, an assertion in `rd_kafka_enq_once_del_source_return` after a broker was killed).
"""

from __future__ import annotations

import logging
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tailrace_log.kafka_errors import ErrorTrap
from tailrace_log.kafka_settings import KafkaSettings

log = logging.getLogger(__name__)

SEND_SECONDS = 1.0
CLOSE_SECONDS = 5.0
READ_SECONDS = 5.0


def progress_group(pipeline: str, sink: str) -> str:
    return f"tailrace.{pipeline}.{sink}"


class Group:
    """One group's offset in partition 0 of the commit topic. Failures are logged, no more."""

    def __init__(self, settings: KafkaSettings, topic: str, name: str) -> None:
        self._name, self._topic = name, topic
        self._trap = ErrorTrap(settings)
        config = settings.consumer() | {"group.id": name}
        with self._trap.naming("read the Kafka settings"):
            self._consumer = Consumer(self._trap.config(config) | {"on_commit": self._answered})
        self._waiting: int | None = None
        self._on_the_way = False
        self._sent_at = -SEND_SECONDS

    def committed(self) -> int | None:
        """None for none.

        Raises:
            LogUnavailableError: the coordinator does not answer.
        """
        with self._trap.naming(f"read the progress of group {self._name}"):
            [found] = self._consumer.committed([TopicPartition(self._topic, 0)], timeout=READ_SECONDS)
        return None if found.offset < 0 else int(found.offset)

    def commit(self, offset: int) -> None:
        """Send it, or keep it for a later call when the last was sent a moment ago."""
        self._waiting = offset
        self.send()

    def send(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        try:
            if self._on_the_way:
                self._consumer.poll(0)  # serves the answer
            if self._waiting is None or (now < self._sent_at + SEND_SECONDS and not at_once):
                return
            self._consumer.commit(offsets=[TopicPartition(self._topic, 0, self._waiting)], asynchronous=True)
        except KafkaException as error:
            log.warning("progress not noted in the log", extra={"group": self._name, "error": str(error)})
        else:
            self._waiting, self._sent_at, self._on_the_way = None, now, True

    def _answered(self, error: KafkaError | None, _places: list[TopicPartition]) -> None:
        self._on_the_way = False
        if error is not None:
            log.warning("progress not noted in the log", extra={"group": self._name, "error": error.str()})

    def close(self) -> None:
        """Send what waits and give the answer a little time."""
        self.send(at_once=True)
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._on_the_way and time.monotonic() < deadline:
            self._consumer.poll(0.05)
        self._consumer.close()


class Groups:
    """Groups by name, each connected when it is first needed."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._groups: dict[str, Group] = {}

    def __getitem__(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(self._settings, self._topic, name)
        return self._groups[name]

    def slowest(self, names: list[str]) -> int | None:
        """The lowest committed offset; None while one of them has none.

        Raises:
            LogUnavailableError: one could not be asked.
        """
        lowest: int | None = None
        for name in names:
            if (offset := self[name].committed()) is None:
                return None
            lowest = offset if lowest is None else min(lowest, offset)
        return lowest

    def send(self) -> None:
        for group in self._groups.values():
            group.send()

    def close(self) -> None:
        for group in self._groups.values():
            group.close()
