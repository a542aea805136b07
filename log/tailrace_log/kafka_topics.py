"""Topics as the brokers hold them: made with declared settings, described with their ids, trimmed.

All calls wait at most `timeout_seconds` and raise our errors only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tailrace_log.kafka_errors import ErrorTrap
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_schemas.errors import LogUnavailableError, StopError, TailraceError

log = logging.getLogger(__name__)

T = TypeVar("T")
TRIM_SECONDS = 5.0  # the writer stands meanwhile
ABSENT = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID)


@dataclass(frozen=True, slots=True)
class Topic:
    """`id` tells it from one of the same name that was deleted and made again."""

    id: str
    partitions: int


class Topics:
    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._trap = ErrorTrap(settings)
        with self._trap.naming("read the Kafka settings"):
            self._admin = AdminClient(self._trap.config(settings.admin()))

    def cluster_id(self) -> str:
        description = self._wait(self._admin.describe_cluster(request_timeout=self._timeout), "reach the Kafka brokers")
        return str(description.cluster_id)

    def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of `names` that exist and have a leader for every partition."""
        wanted = list(names)
        if not wanted:
            return {}
        futures = self._admin.describe_topics(TopicCollection(wanted), request_timeout=self._timeout)
        out: dict[str, Topic] = {}
        for name, future in futures.items():
            try:
                found = self._wait(future, f"describe topic {name}")
            except LogUnavailableError as error:
                if _code(error) in ABSENT:
                    continue
                raise
            if all(getattr(partition.leader, "id", -1) >= 0 for partition in found.partitions):
                out[name] = Topic(str(found.topic_id), len(found.partitions))
        return out

    def ensure(self, partitions: dict[str, int], config: dict[str, str]) -> dict[str, Topic]:
        """Make those that do not exist, and wait until all can be used.

        Raises:
            StopError: one exists with another number of partitions (code PARTITIONS_CHANGED).
        """
        found = self.describe(partitions)
        if missing := {name: count for name, count in partitions.items() if name not in found}:
            self._create(missing, config)
            deadline = time.monotonic() + self._timeout
            while len(found := self.describe(partitions)) < len(partitions):
                if time.monotonic() > deadline:
                    raise LogUnavailableError(f"topics without a leader: {', '.join(set(partitions) - set(found))}")
                time.sleep(0.02)
        for name, count in partitions.items():
            if found[name].partitions != count:
                raise StopError(
                    f"topic {name} has {found[name].partitions} partitions, not {count}",
                    code="PARTITIONS_CHANGED",
                    hint=f"set partitions={found[name].partitions} in the log's URI, or load into another prefix",
                )
        return found

    def _create(self, partitions: dict[str, int], config: dict[str, str]) -> None:
        copies = -1 if self._settings.replication is None else self._settings.replication
        new = [NewTopic(name, count, copies, config=config) for name, count in partitions.items()]
        futures = self._admin.create_topics(new, request_timeout=self._timeout)
        for name, future in futures.items():
            try:
                self._wait(future, f"create topic {name}")
            except LogUnavailableError as error:
                if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was faster
                    raise
            else:
                log.info("topic created", extra={"topic": name, "partitions": partitions[name]})

    def delete_before(self, topic: str, offset: int) -> None:
        """Remove the records of partition 0 below `offset`."""
        place = TopicPartition(topic, 0, offset)
        for future in self._admin.delete_records([place], request_timeout=TRIM_SECONDS).values():
            self._wait(future, f"trim topic {topic}")

    @property
    def _timeout(self) -> float:
        return self._settings.timeout_seconds

    def _wait(self, future: Future[T], doing: str) -> T:
        """Its result; the error callback is served meanwhile, and a refused login ends the wait at once."""
        deadline = time.monotonic() + self._timeout + 5
        self._trap.clear()
        while True:
            try:
                with self._trap.naming(doing):
                    return future.result(timeout=0.05)
            except FutureTimeoutError:
                self._admin.poll(0)
                if self._trap.last is not None and (self._trap.hopeless or time.monotonic() > deadline):
                    raise self._trap.named(self._trap.last, doing) from None
                if time.monotonic() > deadline:
                    raise LogUnavailableError(f"could not {doing} in {self._timeout} s") from None


def _code(error: TailraceError) -> int | None:
    cause = error.__cause__
    return int(cause.args[0].code()) if isinstance(cause, KafkaException) else None
