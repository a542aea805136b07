"""Answers of brokers that a real cluster gives only in rare moments."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tailrace_log.kafka_commits import Commits
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.registry import RegistrySettings
from tailrace_schemas.errors import LogUnavailableError


class Moving:
    """A consumer whose partition has no leader for the first `times` questions. Stands in for a cluster that moves one:
    the moment cannot be had on purpose."""

    def __init__(self, times: int, code: int) -> None:
        self.times, self.code = times, code

    def get_watermark_offsets(self, _: TopicPartition, **__: float) -> tuple[int, int]:
        self.times -= 1
        if self.times >= 0:
            raise KafkaException(KafkaError(self.code))
        return 3, 7


def commits(consumer: Moving) -> Commits:
    found = Commits(KafkaSettings(("127.0.0.1:1",), "shop", RegistrySettings("http://127.0.0.1:1")), "commits", 10)
    found._consumer = cast("Consumer", consumer)
    return found


def test_the_end_is_asked_for_again_while_a_leader_is_chosen() -> None:
    assert commits(Moving(3, KafkaError.NOT_LEADER_FOR_PARTITION)).bounds() == (3, 7)


def test_another_answer_is_not_waited_out() -> None:
    with pytest.raises(LogUnavailableError):
        commits(Moving(1, KafkaError.UNKNOWN_TOPIC_OR_PART)).bounds()
