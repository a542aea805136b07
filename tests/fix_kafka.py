"""Kafka logs for tests, on the shared broker and registry or on brokers of a test's own."""

from typing import Any

from fix_servers import KAFKA, REGISTRY, server

from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.registry import RegistrySettings


def kafka_settings(brokers: str, prefix: str, registry: str = "http://127.0.0.1:1", **more: Any) -> KafkaSettings:
    """Three partitions, trimmed at every log transaction, and patient with a busy machine."""
    found: dict[str, Any] = {"partitions": 3, "trim_seconds": 0.0, "transaction_timeout_ms": 60_000} | more
    return KafkaSettings(tuple(brokers.split(",")), prefix, RegistrySettings(registry), **found)


def shared_kafka_settings(prefix: str, **more: Any) -> KafkaSettings:
    brokers = server(KAFKA).url.removeprefix("kafka://")
    return kafka_settings(brokers, prefix, server(REGISTRY).url, **more)
