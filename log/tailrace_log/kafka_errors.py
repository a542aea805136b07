"""Errors of librdkafka under our names.

A call that fails often says only that time ran out; why is in the error callback, which `Clients` keeps (a wrong
password and a broker that is down look the same otherwise).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

from tailrace_schemas.errors import ConfigError, FencedError, LogUnavailableError, StopError, TailraceError

if TYPE_CHECKING:
    from tailrace_log.kafka_settings import Config, KafkaSettings

librdkafka_log = logging.getLogger("tailrace_log.librdkafka")


def _for_developers(record: logging.LogRecord) -> bool:
    """librdkafka logs every attempt to connect as an error, many a second. What matters to an operator comes back as
    an error of the call; the rest is for debugging."""
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return librdkafka_log.isEnabledFor(logging.DEBUG)


librdkafka_log.addFilter(_for_developers)

FENCED = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
AUTHENTICATION = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)
AUTHORIZATION = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
}
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
REFUSED = frozenset(
    {
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._INVALID_ARG,
    }
)


class ErrorTrap:
    """Keeps what a client's error callback said last. `settings` name the place in messages."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.last: KafkaError | None = None

    def config(self, config: Config) -> dict[str, Any]:
        """`config` with this trap and our logger in it."""
        return {**config, "error_cb": self._keep, "logger": librdkafka_log}

    def _keep(self, error: KafkaError) -> None:
        # A later "all brokers down" must not hide the reason that came before it.
        if self.last is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error

    def clear(self) -> None:
        self.last = None

    @property
    def hopeless(self) -> bool:
        """Waiting longer would not help: we are not let in."""
        return self.last is not None and isinstance(self.named(self.last, "connect"), ConfigError)

    def named(self, error: KafkaError, doing: str) -> TailraceError:
        """`doing` as in "could not <doing>"."""
        last, where = self.last, ",".join(self._settings.brokers)
        transport = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
        if last is not None and last is not error and error.code() in transport and last.code() not in transport:
            return self.named(last, doing)
        code, detail = error.code(), f"{error.name()}: {error.str()}"
        if last is not None and last is not error:
            detail += f"; {last.name()}: {last.str()}"
        if code in FENCED or (error.fatal() and "fenced" in error.str().lower()):
            return FencedError(f"another capture process has opened the log {self._settings.prefix}", detail=detail)
        if code in AUTHENTICATION:
            return ConfigError(
                f"the Kafka brokers {where} refuse the login",
                code="KAFKA_AUTH",
                detail=detail,
                hint="check user, password, security_protocol and sasl_mechanism in the log's URI",
            )
        if code in AUTHORIZATION:
            return ConfigError(
                f"could not {doing}: Kafka does not allow it on this {AUTHORIZATION[code]}",
                code="KAFKA_ACL",
                detail=detail,
                hint=self._grants(),
            )
        if code == KafkaError._SSL:
            return ConfigError(
                f"no TLS connection to the Kafka brokers {where}",
                code="KAFKA_TLS",
                detail=detail,
                hint="set ssl.ca.location (and ssl.certificate.location, ssl.key.location) under kafka:",
            )
        if code in TOO_LARGE:
            return StopError(
                f"could not {doing}: a record is larger than the topic allows",
                code="TOO_LARGE",
                detail=detail,
                hint="raise max.message.bytes of the topic, and message.max.bytes under kafka: beyond 64 MB",
            )
        if code in REFUSED:
            hint = "correct what the detail names in the log's URI, or under kafka: or topics:"
            return ConfigError(f"could not {doing}: Kafka refuses the settings", code="KAFKA", detail=detail, hint=hint)
        return LogUnavailableError(f"could not {doing} at {where}", detail=detail)

    def late(self, doing: str) -> TailraceError:
        """Time ran out without an error of the call itself."""
        if self.last is not None:
            return self.named(self.last, doing)
        return LogUnavailableError(f"could not {doing} in {self._settings.timeout_seconds} s")

    def _grants(self) -> str:
        prefix = self._settings.prefix
        return (
            f"allow Create, Describe, Read, Write, Delete on topics that begin with {prefix} and"
            f" __tailrace-commit.{prefix} and __tailrace-dead-letter.{prefix}; Read on groups and Describe, Write on"
            " transactional ids that begin with tailrace."
        )

    @contextmanager
    def naming(self, doing: str) -> Iterator[None]:
        """confluent-kafka raises a producer's fatal errors (we are fenced) out of the error callback, in the middle of
        whatever call serves it; when a delivery report is served by the same call, Python makes a SystemError of that.
        The next call on the producer says which it was."""
        try:
            yield
        except SystemError as failure:
            raise LogUnavailableError(f"could not {doing}: the Kafka producer has failed") from failure
        except KafkaException as exception:
            error = exception.args[0]
            assert isinstance(error, KafkaError)
            raise self.named(error, doing) from exception
