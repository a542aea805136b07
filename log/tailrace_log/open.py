"""From a log URL and a pipeline's settings to its event log.

The URL is parsed, and its passwords looked up, by `tailrace_schemas.log_uri`; confluent-kafka is imported only when the
log is in Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tailrace_log.embedded import EmbeddedLog
from tailrace_log.log import EventLog
from tailrace_log.registry import RegistrySettings
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import KafkaLogUrl, LogUrl, SqliteLogUrl

LOG_FILE = "log.db"
_NONE: Mapping[str, str] = MappingProxyType({})


def open_log(
    url: LogUrl,
    *,
    prefix: str,
    state: Path,
    kafka: Mapping[str, str] = _NONE,
    topics: Mapping[str, str] = _NONE,
    auto_register: bool = True,
    partitions: int = 1,
) -> EventLog:
    """The log at `url`, made when it is not there.

    `prefix`: of all topics, where the URL names none; `state`: the pipeline's folder, where an embedded log without a
    path lives; `kafka`, `topics`: librdkafka keys and settings of new data topics; `auto_register` False: schemas are
    only looked up; `partitions`: of a new embedded log's topics (Kafka's stand in the URL).

    Raises:
        ConfigError: the log cannot be what the settings say.
        StopError: it is damaged, or another pipeline's.
        LogUnavailableError: try again.
    """
    if isinstance(url, SqliteLogUrl):
        return EmbeddedLog(state / LOG_FILE if url.path is None else Path(url.path), prefix, partitions)
    return _open_kafka(url, prefix, kafka, topics, auto_register)


def _open_kafka(
    url: KafkaLogUrl, prefix: str, kafka: Mapping[str, str], topics: Mapping[str, str], auto_register: bool
) -> EventLog:
    try:
        from tailrace_log.kafka import KafkaLog
        from tailrace_log.kafka_settings import KafkaSettings
    except ModuleNotFoundError as error:
        raise ConfigError(f"a Kafka log needs {error.name}", hint='pip install "tailrace[kafka]"') from error
    return KafkaLog(
        KafkaSettings(
            brokers=url.brokers,
            prefix=url.prefix or prefix,
            registry=RegistrySettings(
                url.registry,
                user=url.registry_user,
                password=url.registry_password,
                auto_register=auto_register,
                ca_file=url.registry_ca,
                cert_file=url.registry_cert,
                key_file=url.registry_key,
            ),
            partitions=url.partitions,
            replication=url.replication,
            security_protocol=url.security_protocol,
            sasl_mechanism=url.sasl_mechanism,
            user=url.user,
            password=url.password,
            extra=dict(kafka),
            topics=dict(topics),
        )
    )
