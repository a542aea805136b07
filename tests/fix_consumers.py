"""A consumer of the topics that knows nothing of Tailrace: confluent-kafka, fastavro and the registry's HTTP API.

Values become Python's by the Connect name in the registered schema, as a reader of Debezium's events does it. Sources:
Confluent documentation, "Wire format" and "Schema Registry API Reference"; Debezium documentation, "Data type mappings".
"""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

Row = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
# A row under a new key may come without a value that was not sent, when a later event removes it again.
NEVER_SENT = "never sent"


class Registry:
    """`url`: up to where `/subjects` follows."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._texts: dict[int, Any] = {}
        self._parsed: dict[int, Any] = {}

    def schema(self, number: int) -> Any:
        """The schema as it was registered."""
        if number not in self._texts:
            self._texts[number] = json.loads(self._get(f"schemas/ids/{number}")["schema"])
        return self._texts[number]

    def latest(self, subject: str) -> int:
        return int(self._get(f"subjects/{subject}/versions/latest")["id"])

    def separate_ids(self, name: str) -> None:
        """Let Apicurio's two kinds of ids differ, as in any registry in use: a refused artifact takes a content id."""
        url = self.url.replace("/ccompat/v7", "/registry/v2/groups/default/artifacts?ifExists=FAIL")
        headers = {"Content-Type": "application/json", "X-Registry-ArtifactId": name, "X-Registry-ArtifactType": "AVRO"}
        for size in (1, 2):
            text = json.dumps({"type": "fixed", "name": "it", "size": size}).encode()
            # The second one with 409; a registry that is not Apicurio has one kind of ids, and no such path.
            with suppress(urllib.error.HTTPError):
                urllib.request.urlopen(urllib.request.Request(url, text, headers, method="POST"), timeout=20).close()

    def decode(self, data: bytes) -> tuple[int, Any]:
        """The schema's id and the value of a framed message: a zero byte, the id, Avro to the last byte."""
        assert data[0] == 0
        number = int.from_bytes(data[1:5], "big")
        stream = io.BytesIO(data[5:])
        value = fastavro.schemaless_reader(stream, self._schema(number), None)
        assert stream.read() == b"", "bytes after the value"
        return number, value

    def encode(self, number: int, value: Any) -> bytes:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, self._schema(number), value)
        return b"\0" + number.to_bytes(4, "big") + stream.getvalue()

    def _schema(self, number: int) -> Any:
        if number not in self._parsed:
            self._parsed[number] = fastavro.parse_schema(json.loads(json.dumps(self.schema(number))))
        return self._parsed[number]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=20) as answer:
            return json.load(answer)


@dataclass(frozen=True, slots=True)
class Record:
    """One message. `value` None: a tombstone. Headers are decoded as keys."""

    topic: str
    partition: int
    offset: int
    key: Row | None
    value: Row | None
    key_id: int
    value_id: int
    headers: dict[str, Row]


class TopicReader:
    """Reads whole topics, further at each call; no group, no committed offsets."""

    def __init__(
        self, brokers: str, registry: Registry, topics: Iterable[str], isolation: str = "read_committed"
    ) -> None:
        self.registry, self.records = registry, list[Record]()
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": f"plain-{uuid.uuid4().hex}",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        partitions = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for topic in topics
            for number in self._consumer.list_topics(topic, timeout=20).topics[topic].partitions
        ]
        self._consumer.assign(partitions)
        self._unread = {(p.topic, p.partition) for p in partitions}

    def read(self) -> list[Record]:
        """All since the beginning, at least up to the ends that the partitions had when this reader was made."""
        self._take(0.2)
        while self._unread:
            self._take(1.0)
        return self.records

    def _take(self, seconds: float) -> None:
        for message in self._consumer.consume(1000, seconds):
            error = message.error()
            if error is None:
                self.records.append(self._record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._unread.discard((str(message.topic()), int(message.partition() or 0)))
            else:
                raise AssertionError(error)

    def _record(self, message: Any) -> Record:
        key_id, key = self.registry.decode(message.key()) if message.key() is not None else (0, None)
        value_id, value = self.registry.decode(message.value()) if message.value() is not None else (0, None)
        headers = {name: self.registry.decode(data)[1] for name, data in message.headers() or ()}
        place = (message.topic(), message.partition(), message.offset())
        return Record(*place, key, value, key_id, value_id, headers)

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def of_topic(records: Iterable[Record], topic: str) -> list[Record]:
    """In the order of each partition."""
    return sorted((r for r in records if r.topic == topic), key=lambda r: (r.partition, r.offset))


# ---- rows


def rebuilt(registry: Registry, records: list[Record]) -> list[Row]:
    """The rows of a keyed topic as its events tell them; values as Python's, columns that were not sent as they were.

    Also holds the events to what any consumer relies on: no row comes twice or changes while it is absent.
    """
    rows: dict[str, Row] = {}
    for record in records:
        if record.value is None:
            continue
        place, op = json.dumps(record.key, default=str), record.value["op"]
        if op == "d":
            assert rows.pop(place, None) is not None, f"delete of an absent row: {record}"
            continue
        assert (place in rows) == (op == "u"), f"{op} of a row that is {'' if place in rows else 'not '}there: {record}"
        rows[place] = after(registry, record, rows.get(place))
        assert {name: record.value["after"][name] for name in record.key or ()} == record.key
    return list(rows.values())


def rebuilt_keyless(registry: Registry, records: list[Record]) -> list[Row]:
    """The rows of a topic without keys: a delete and an update name the whole row before."""
    rows: list[Row] = []
    for record in records:
        assert record.key is None
        assert record.value is not None, f"a tombstone without a key: {record}"
        if record.value["op"] in "ud":
            rows.remove(image(registry, record, "before"))
        if record.value["op"] != "d":
            rows.append(after(registry, record, None))
    return rows


def after(registry: Registry, record: Record, kept: Row | None) -> Row:
    """The row after an event. `kept`: what it was, for the columns named as unavailable."""
    assert record.value is not None
    row = image(registry, record, "after")
    for name in record.value["unavailable_columns"] or ():
        row[name] = kept[name] if kept is not None else NEVER_SENT
    return row


def image(registry: Registry, record: Record, side: str) -> Row:
    assert record.value is not None
    types, exact = column_types(registry.schema(record.value_id)), record.value["exact_values"] or {}
    row = {}
    for name, value in record.value[side].items():
        text = exact.get(f"{side}.{name}")
        row[name] = python_value(types[name], value) if text is None else text
    return row


def column_types(envelope: Any) -> dict[str, Any]:
    """Column → Avro type without its null branch."""
    fields = {field["name"]: field["type"] for field in envelope["fields"]}
    (row,) = (branch for branch in fields["before"] if isinstance(branch, dict))
    return {field["name"]: _not_null(field["type"]) for field in row["fields"]}


def _not_null(avro: Any) -> Any:
    return next(branch for branch in avro if branch != "null") if isinstance(avro, list) else avro


def python_value(avro: Any, value: Any) -> Any:
    """Times of day and durations as timedelta; text that Debezium gives no other form stays text."""
    name = avro.get("connect.name", "") if isinstance(avro, dict) else ""
    if value is None or not name:
        return value
    match name.rpartition(".")[2]:
        case "Date":
            return date(1970, 1, 1) + timedelta(value)
        case "Timestamp":
            return EPOCH + timedelta(milliseconds=value)
        case "MicroTimestamp":
            return EPOCH + timedelta(microseconds=value)
        case "ZonedTimestamp":
            return datetime.fromisoformat(value)
        case "Time":
            return timedelta(milliseconds=value)
        case "MicroTime":
            return timedelta(microseconds=value)
        case "VariableScaleDecimal":
            # From text: arithmetic would round to the context's 28 digits.
            return Decimal(f"{int.from_bytes(value['value'], 'big', signed=True)}e{-value['scale']}")
        case "Json":
            return json.loads(value)
        case "Uuid":
            return uuid.UUID(value)
    return value


# ---- what may never be seen


def write_and_abort(brokers: str, registry: Registry, like: Record, **changed: Any) -> None:
    """Leave a create event like `like`, but for `changed` columns of key and row, in an aborted transaction."""
    assert like.key is not None
    assert like.value is not None
    key = {name: changed.get(name, value) for name, value in like.key.items()}
    value = {**like.value, "op": "c", "before": None, "after": {**like.value["after"], **changed}}
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"stranger-{uuid.uuid4().hex}"})
    producer.init_transactions(20)
    producer.begin_transaction()
    texts = registry.encode(like.value_id, value), registry.encode(like.key_id, key)
    producer.produce(like.topic, *texts, like.partition)
    assert producer.flush(20) == 0
    producer.abort_transaction(20)


def tombstones_follow_deletes(records: list[Record]) -> Iterator[Record]:
    """The deletes; after each of them, and nowhere else, stands the tombstone of its key."""
    expected: Record | None = None
    for record in records:
        if record.value is None:
            assert expected is not None, f"a tombstone after no delete: {record}"
            assert (record.partition, record.key) == (expected.partition, expected.key)
            expected = None
            continue
        assert expected is None, f"no tombstone after {expected}"
        if record.value["op"] == "d":
            expected = record
            yield record
    assert expected is None, f"no tombstone after {expected}"
