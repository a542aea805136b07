"""The dead-letter topic: events that a target refused, with their key and value as they were and the why in headers.

One partition, kept for ever, made when it is first needed. The producer is idempotent but not transactional: a letter
may come twice when a process dies between the broker's answer and its own note of it; the header `tailrace.id` is the
same in both, and `dead_letters` gives the first.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from tailrace_log.kafka_errors import ErrorTrap
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.kafka_topics import Topics
from tailrace_log.log import DeadLetter
from tailrace_schemas.errors import LogUnavailableError

_ID, _WHY = "tailrace.id", "tailrace.letter"
_OWN_NUMBERS = ("transactional.id", "transaction.timeout.ms")


class Letters:
    """Clients are made when they are needed: most sinks never set anything aside."""

    def __init__(self, settings: KafkaSettings, topics: Topics, topic: str) -> None:
        self._settings, self._topics, self._topic = settings, topics, topic
        self._trap = ErrorTrap(settings)
        self._producer: Producer | None = None

    def write(self, letters: list[DeadLetter]) -> None:
        producer = self._opened()
        failed: list[KafkaError] = []

        def reported(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        doing = f"write topic {self._topic}"
        with self._trap.naming(doing):
            for letter in letters:
                producer.produce(
                    self._topic,
                    key=letter.key,
                    value=letter.value,
                    partition=0,
                    headers=[(_ID, _id(letter)), (_WHY, _why(letter))],
                    on_delivery=reported,
                )
            left = producer.flush(self._settings.timeout_seconds)
        if failed:
            raise self._trap.named(failed[0], doing)
        if left:
            self._producer = None  # what it still holds must not arrive after a second try
            producer.purge()
            raise self._trap.late(doing)

    def _opened(self) -> Producer:
        if self._producer is None:
            self._topics.ensure({self._topic: 1}, self._settings.commit_topic())
            config = {k: v for k, v in self._settings.producer().items() if k not in _OWN_NUMBERS}
            with self._trap.naming("read the Kafka settings"):
                self._producer = Producer(self._trap.config(config))
        return self._producer

    def read(self) -> list[DeadLetter]:
        if self._topic not in self._topics.describe([self._topic]):
            return []
        doing = f"read topic {self._topic}"
        with self._trap.naming(doing):
            consumer = Consumer(self._trap.config(self._settings.consumer()))
            try:
                consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
                return self._all(consumer, doing)
            finally:
                consumer.close()

    def _all(self, consumer: Consumer, doing: str) -> list[DeadLetter]:
        found: dict[object, DeadLetter] = {}
        deadline = time.monotonic() + self._settings.timeout_seconds
        while True:
            message = consumer.poll(0.2)
            if message is None:
                if time.monotonic() > deadline:
                    raise self._trap.late(doing)
                continue
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return list(found.values())
                named = self._trap.named(error, doing)
                if not isinstance(named, LogUnavailableError) or time.monotonic() > deadline:
                    raise named
                continue
            id_, why = (header[1] for header in message.headers() or [])
            found.setdefault(id_, _letter(message, why))


def _id(letter: DeadLetter) -> bytes:
    return json.dumps([letter.sink, letter.topic, letter.partition, letter.offset]).encode()


def _why(letter: DeadLetter) -> bytes:
    return json.dumps({k: v for k, v in asdict(letter).items() if k not in ("key", "value")}).encode()


def _letter(message: Message, why: str | bytes | None) -> DeadLetter:
    return DeadLetter(**json.loads(why or b"{}"), key=message.key(), value=message.value())
