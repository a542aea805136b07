"""The event log in Apache Kafka, for pipelines of many processes: topics, a commit topic, and a schema registry.

    <prefix>.<schema>.<table>      data, Debezium-compatible
    __tailrace-dead-letter.<prefix>  what targets refused
    __tailrace-commit.<prefix>     one commit record per log transaction, one partition (rule C4)

The parts: `kafka_settings` (what librdkafka is told), `kafka_writer`, `kafka_reader`, `kafka_commits` (the commit
topic), `kafka_topics` (making, describing, trimming), `kafka_errors` (names), `kafka_frames` (the hot loops).
"""

from __future__ import annotations

from tailrace_log.kafka_reader import KafkaReader
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.kafka_topics import Topics
from tailrace_log.kafka_writer import KafkaWriter, Patience
from tailrace_log.log import SchemaRegistry
from tailrace_log.registry import ConfluentRegistry
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.topic import commit_topic, dead_letter_topic


class KafkaLog:
    """Connects at once and makes the commit topic when it is not there.

    `log_id`: the cluster's id and that of the commit topic, so that both a new cluster and a new topic are noticed.

    Raises:
        ConfigError: not let in, or settings that cannot be (KAFKA_AUTH, KAFKA_TLS, KAFKA_ACL, KAFKA).
        StopError: the commit topic has more than one partition (PARTITIONS_CHANGED).
        LogUnavailableError: try again.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.prefix = settings.prefix
        self.partitions = settings.partitions
        self.registry: SchemaRegistry = ConfluentRegistry(settings.registry)
        self._topics = Topics(settings)
        self._commit_topic = commit_topic(settings.prefix)
        self._patience = Patience(settings.transaction_timeout_ms)
        cluster = self._topics.cluster_id()
        found = self._topics.ensure({self._commit_topic: 1}, settings.commit_topic())
        self.log_id = f"{cluster}/{found[self._commit_topic].id}"

    def writer(self, pipeline: str, sinks: list[str]) -> KafkaWriter:
        if sinks and "compact" in self.settings.topics.get("cleanup.policy", ""):
            raise ConfigError(
                "data topics that a sink of Tailrace reads cannot be compacted: it would miss records",
                hint="remove cleanup.policy from topics:, or use `delete` with a retention.ms",
            )
        return KafkaWriter(self.settings, self._topics, self._commit_topic, pipeline, sinks, self._patience)

    def reader(self) -> KafkaReader:
        return KafkaReader(self.settings, self._topics, self._commit_topic, dead_letter_topic(self.prefix))

    def size_bytes(self) -> int:
        """-1: the brokers do not tell through this client."""
        return -1

    def close(self) -> None: ...
