"""What a Kafka log is told, and the librdkafka configuration that its guarantees rest on.

`extra` are librdkafka keys of the user's own (OAuth, mTLS, …); those in `OWN_KEYS` are ours alone.
Source: librdkafka, CONFIGURATION.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tailrace_log.registry import RegistrySettings
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.uri import Secret

MAX_MESSAGE_BYTES = 64 << 20

OWN_KEYS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "request.required.acks",
        "transaction.timeout.ms",
        "transactional.id",
    }
)

Config = dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`brokers`: host:port. `replication` None: the broker's default. `topics`: settings of new data topics.

    `timeout_seconds`: how long an operation waits for the brokers before it is LogUnavailableError.
    `trim_seconds`: how often the writer removes commit records that all sinks have applied.
    """

    brokers: tuple[str, ...]
    prefix: str
    registry: RegistrySettings
    partitions: int = 4
    replication: int | None = None
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    user: str | None = None
    password: Secret | None = None
    extra: dict[str, str] = field(default_factory=dict, repr=False)
    topics: dict[str, str] = field(default_factory=dict)
    transaction_timeout_ms: int = 10_000
    timeout_seconds: float = 30.0
    trim_seconds: float = 10.0

    def __post_init__(self) -> None:
        if taken := sorted(OWN_KEYS & set(self.extra)):
            raise ConfigError(
                f"{', '.join(taken)} cannot be set under kafka: what is never lost rests on our values",
                hint="remove them",
            )

    @property
    def transactional_id(self) -> str:
        """One per prefix, so that whoever opens a log fences every other writer of it."""
        return f"tailrace.{self.prefix}"

    def client(self) -> Config:
        """What every client needs to reach the brokers."""
        out: Config = {
            "bootstrap.servers": ",".join(self.brokers),
            "client.id": f"tailrace.{self.prefix}",
            "security.protocol": self.security_protocol,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 2000,
            # A TLS listener is also checked for its name unless the user says otherwise under kafka:.
            "ssl.endpoint.identification.algorithm": "https",
        }
        if self.sasl_mechanism is not None:
            out["sasl.mechanism"] = self.sasl_mechanism
        if self.user is not None:
            out["sasl.username"] = self.user
        if self.password is not None:
            out["sasl.password"] = self.password.reveal()
        return out

    def admin(self) -> Config:
        return self.client() | _without(self.extra, _PRODUCER_ONLY + _CONSUMER_ONLY)

    def producer(self) -> Config:
        return (
            self.client()
            | {
                "compression.type": "lz4",
                # Batches fill while a log transaction is handed over; its end does not wait (flush ignores linger).
                "linger.ms": 50,
                "batch.size": 262_144,
                "batch.num.messages": 100_000,
                "queue.buffering.max.messages": 0,
                "queue.buffering.max.kbytes": 1 << 20,
                "message.max.bytes": MAX_MESSAGE_BYTES,
            }
            | _without(self.extra, _CONSUMER_ONLY)
            | {
                "transactional.id": self.transactional_id,
                "transaction.timeout.ms": self.transaction_timeout_ms,
                "message.timeout.ms": self.transaction_timeout_ms,
                "enable.idempotence": True,
                "acks": "all",
            }
        )

    def consumer(self) -> Config:
        return (
            self.client()
            | {
                "fetch.queue.backoff.ms": 2,
                "fetch.error.backoff.ms": 50,
                "queued.max.messages.kbytes": 16_384,
                "fetch.message.max.bytes": 1 << 20,
                "fetch.max.bytes": MAX_MESSAGE_BYTES,
                "receive.message.max.bytes": MAX_MESSAGE_BYTES + (1 << 20),
            }
            | _without(self.extra, _PRODUCER_ONLY)
            | {
                # Only a name: partitions are assigned by hand and offsets are never committed by this client.
                "group.id": f"tailrace.{self.prefix}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
            }
        )

    def data_topic(self) -> dict[str, str]:
        return {"cleanup.policy": "delete", "max.message.bytes": str(MAX_MESSAGE_BYTES)} | self.topics

    @staticmethod
    def commit_topic() -> dict[str, str]:
        """Rule C4: kept for ever, not compacted; the writer removes what all sinks have applied."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }


_PRODUCER_ONLY = ("linger.ms", "queue.buffering.", "batch.", "compression.", "message.", "partitioner", "retries")
_CONSUMER_ONLY = ("fetch.", "queued.", "session.", "max.poll.", "heartbeat.", "check.crcs")


def _without(extra: dict[str, str], beginnings: tuple[str, ...]) -> Config:
    """librdkafka warns about keys that belong to the other kind of client."""
    return {key: value for key, value in extra.items() if not key.startswith(beginnings)}
