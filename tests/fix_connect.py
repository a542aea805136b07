"""Kafka Connect with Debezium's JDBC sink (`tests/bed/connect.sh`), on the shared broker and registry."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import Consumer, TopicPartition
from fix_consumers import Record
from fix_servers import CONNECT, KAFKA, REGISTRY, private_server, server

Settings = Mapping[str, str]


def converter(registry_url: str) -> dict[str, str]:
    """Keys and values as Avro in Confluent's framing, read with the ids that the registry's Confluent API gives."""
    out = {}
    for side in ("key", "value"):
        out[f"{side}.converter"] = "io.apicurio.registry.utils.converter.AvroConverter"
        out[f"{side}.converter.apicurio.registry.url"] = registry_url.replace("/ccompat/v7", "/registry/v2")
        out[f"{side}.converter.apicurio.registry.as-confluent"] = "true"
        out[f"{side}.converter.apicurio.registry.use-id"] = "contentId"
    return out


def jdbc_sink(target: str, topics: Iterable[str], names: str) -> dict[str, str]:
    """Debezium's JDBC sink as `docs/consumers.md` sets it. `names`: the target's table of a topic."""
    parts = urlsplit(target)
    return {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "topics": ",".join(topics),
        "consumer.override.isolation.level": "read_committed",
        "consumer.override.auto.offset.reset": "earliest",
        "connection.url": f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}",
        "connection.username": parts.username or "",
        "connection.password": "unused",
        "insert.mode": "upsert",
        "primary.key.mode": "record_key",
        "delete.enabled": "true",
        "schema.evolution": "basic",
        "collection.name.format": names,
    }


@dataclass(frozen=True, slots=True)
class Connector:
    """A running connector."""

    name: str
    url: str
    brokers: str

    def has_read(self, records: Iterable[Record]) -> bool:
        """It has applied them all: a sink's offsets are committed after what it wrote.

        Raises:
            AssertionError: it failed; with the worker's stack trace.
        """
        for task in call(self.url, "GET", f"/connectors/{self.name}/status")["tasks"]:
            assert task["state"] != "FAILED", task["trace"]
        last = dict[tuple[str, int], int]()
        for record in records:
            last[record.topic, record.partition] = max(record.offset, last.get((record.topic, record.partition), -1))
        group = Consumer({"bootstrap.servers": self.brokers, "group.id": f"connect-{self.name}"})
        try:
            committed = group.committed([TopicPartition(*place) for place in last], timeout=20)
        finally:
            group.close()
        return all(place.offset > last[place.topic, place.partition] for place in committed)


@dataclass(frozen=True, slots=True)
class Connect:
    """A worker, by its REST API."""

    url: str
    brokers: str

    @contextmanager
    def connector(self, settings: Settings) -> Iterator[Connector]:
        """A connector until the end of the block."""
        name = f"c{uuid.uuid4().hex[:10]}"
        whole = {"name": name, "tasks.max": "1", **converter(server(REGISTRY).url), **settings}
        call(self.url, "PUT", f"/connectors/{name}/config", whole)
        try:
            yield Connector(name, self.url, self.brokers)
        finally:
            call(self.url, "DELETE", f"/connectors/{name}")


def call(url: str, method: str, path: str, body: Settings | None = None) -> Any:
    data = json.dumps(dict(body)).encode() if body else None
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None


@contextmanager
def connect_worker() -> Iterator[Connect]:
    brokers = server(KAFKA).url.removeprefix("kafka://")
    with private_server(CONNECT, config=f"bootstrap.servers={brokers}") as private:
        yield Connect(private.url, brokers)
