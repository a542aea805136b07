"""What foreign consumers make of the topics: the source's tables, exactly. No Tailrace code reads here.

The log is written under load and changes at once, by a capture that is killed on the way; afterwards a stranger leaves
aborted records in it. One consumer is confluent-kafka with fastavro, the other Debezium's JDBC sink on Kafka Connect.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import zip_longest
from pathlib import Path

import fix_servers
import pytest
from fix_command import tailrace
from fix_connect import Connect, connect_worker, jdbc_sink
from fix_consumers import (
    Registry,
    TopicReader,
    of_topic,
    rebuilt,
    rebuilt_keyless,
    tombstones_follow_deletes,
)
from fix_servers import KAFKA, REGISTRY, fresh_mysql_database, fresh_postgres_database, wait_until
from pipeline.consumers_source import KEYED, Captured, Row, SourceTables, captured_topics, comparable

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("consumers")]
PLACEHOLDER = "__debezium_unavailable_value"
SOURCES = ["POSTGRES18", "MYSQL80", "MARIADB118"]


@pytest.fixture(scope="module", params=SOURCES)
def captured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Captured]:
    folder = tmp_path_factory.mktemp(request.param)
    with captured_topics(request.param, folder, random.Random(f"{seed} consumers")) as topics:
        yield topics


@pytest.fixture(scope="module")
def connect() -> Iterator[Connect]:
    with connect_worker() as worker:
        yield worker


def assert_equal_rows(got: Iterable[Row], expected: Iterable[Row]) -> None:
    """As multisets; a difference is shown by its first row."""

    def place(row: Row) -> str:
        return str(sorted(row.items()))

    for one, other in zip_longest(sorted(got, key=place), sorted(expected, key=place)):
        assert one == other


# ---- confluent-kafka and fastavro


@pytest.mark.parametrize("table", KEYED)
def test_a_plain_consumer_rebuilds_keyed_tables(captured: Captured, table: str) -> None:
    got = map(comparable, rebuilt(captured.registry, of_topic(captured.records, captured.topic(table))))
    assert_equal_rows(got, captured.source_rows(table))


def test_a_plain_consumer_rebuilds_a_table_without_keys(captured: Captured) -> None:
    got = rebuilt_keyless(captured.registry, of_topic(captured.records, captured.topic("loose")))
    assert_equal_rows(map(comparable, got), captured.source_rows("loose"))


def test_events_are_spread_over_partitions_and_in_commit_order_in_each(captured: Captured) -> None:
    partitions = {r.partition for r in of_topic(captured.records, captured.topic("items"))}
    assert partitions == {0, 1, 2, 3}
    for topic in captured.data_topics:
        last = Counter[tuple[int, str]]()
        for record in of_topic(captured.records, topic):
            if record.value is not None and record.value["op"] in "cu":
                assert record.value["after"]["step"] >= last[record.partition, "step"], record
                last[record.partition, "step"] = record.value["after"]["step"]


def test_one_key_is_always_in_one_partition(captured: Captured) -> None:
    for table in KEYED:
        places = {(str(r.key), r.partition) for r in of_topic(captured.records, captured.topic(table))}
        assert len({key for key, _ in places}) == len(places)


def test_a_tombstone_follows_every_delete(captured: Captured) -> None:
    for table in ("items", "pairs"):
        deletes = list(tombstones_follow_deletes(of_topic(captured.records, captured.topic(table))))
        assert deletes
        for delete in deletes:
            assert delete.value is not None
            assert delete.value["after"] is None
            assert {name: delete.value["before"][name] for name in delete.key or ()} == delete.key


def test_both_halves_of_a_key_change_name_each_other(captured: Captured) -> None:
    pairs = Counter[tuple[str, str]]()
    for record in of_topic(captured.records, captured.topic("items")):
        assert set(record.headers) <= {"__debezium.newkey", "__debezium.oldkey"}
        if new := record.headers.get("__debezium.newkey"):
            assert record.value is not None
            assert record.value["op"] == "d"
            pairs[str(record.key), str(new)] += 1
        if old := record.headers.get("__debezium.oldkey"):
            assert record.value is not None
            assert record.value["op"] == "c"
            pairs[str(old), str(record.key)] -= 1
    assert len(pairs) > 2
    assert set(pairs.values()) == {0}


def test_schemas_stand_under_the_topics_subjects(captured: Captured) -> None:
    for topic in captured.data_topics:
        last = of_topic(captured.records, topic)[0]
        if last.key is not None:
            assert captured.registry.latest(f"{topic}-key") == last.key_id
        assert captured.registry.latest(f"{topic}-value") == last.value_id


def test_only_a_reader_of_uncommitted_records_sees_what_was_aborted(captured: Captured) -> None:
    topic = captured.topic("items")
    assert -1 not in {r.key["id"] for r in of_topic(captured.records, topic) if r.key}
    with TopicReader(captured.brokers, captured.registry, [topic], isolation="read_uncommitted") as reader:
        assert -1 in {r.key["id"] for r in reader.read() if r.key}


def test_a_value_that_was_not_sent_is_named(captured: Captured) -> None:
    named = Counter[str]()
    for table in ("texts", "notes"):
        for record in of_topic(captured.records, captured.topic(table)):
            if record.value is not None and record.value["unavailable_columns"]:
                assert record.value["unavailable_columns"] == ["body"]
                assert record.value["after"]["body"] == PLACEHOLDER
                named[table] += 1
    assert (named["texts"] > 0, named["notes"]) == (captured.source.is_postgres, 0)


def test_heartbeats_are_read(captured: Captured) -> None:
    records = captured.read(f"__debezium-heartbeat.{captured.prefix}")
    assert {str(r.key) for r in records} == {str({"serverName": captured.prefix})}
    assert all(r.value is not None and set(r.value) == {"ts_ms"} for r in records)


def test_schema_changes_are_read(captured: Captured) -> None:
    ids = set()
    for record in captured.read(captured.prefix):
        assert record.key is not None
        assert record.value is not None
        assert record.value["databaseName"] == record.key["databaseName"] == captured.source.database
        for change in record.value["tableChanges"]:
            ids.add(change["id"])
            if change["id"].endswith('."pairs"'):
                assert [c["name"] for c in change["table"]["columns"]] == ["a", "step", "b"]
                assert change["table"]["primaryKeyColumnNames"] == ["b", "a"]
    assert ids == {f'"{captured.source.namespace}"."{table}"' for table in (*KEYED, "loose")}


def test_transaction_boundaries_count_the_events(captured: Captured) -> None:
    """During the load also those that are not in the topics because the loaded rows hold them."""
    counted, loaded_ms = Counter[tuple[str, str]](), 0
    for record in captured.records:
        if record.value is not None and record.value["op"] == "r":
            loaded_ms = max(loaded_ms, record.value["ts_ms"])
        elif record.value is not None:
            counted[record.value["transaction"]["id"], record.topic] += 1
    begun, late = Counter[str](), 0
    for record in captured.read(f"{captured.prefix}.transaction"):
        assert record.key is not None
        assert record.value is not None
        number = record.value["id"]
        assert record.key["id"] == number
        begun[number] += 1 if record.value["status"] == "BEGIN" else -1
        parts = {part["data_collection"]: part["event_count"] for part in record.value["data_collections"] or ()}
        assert sum(parts.values()) == (record.value["event_count"] or 0)
        for topic, count in parts.items():
            assert counted[number, topic] <= count
            if record.value["ts_ms"] > loaded_ms:
                assert counted[number, topic] == count
                late += 1
    assert late > 50
    assert set(begun.values()) == {0}
    assert {number for number, _ in counted} <= set(begun)


# ---- Debezium's JDBC sink


@pytest.fixture(scope="module")
def copy(captured: Captured, connect: Connect) -> Iterator[SourceTables]:
    """What the sink made of the topics in an empty database."""
    topics = [captured.topic(table) for table in ("items", "pairs", "texts", "notes")]
    names = "${source.schema}.${source.table}" if captured.source.is_postgres else "${source.table}"
    records = [record for record in captured.records if record.topic in topics]
    with fresh_postgres_database("POSTGRES18") as target, closing(SourceTables(target)) as tables:
        with connect.connector(jdbc_sink(target, topics, names)) as connector:
            wait_until(lambda: connector.has_read(records), 120, "the sink has read the topics")
        yield tables


@pytest.mark.parametrize("table", ["items", "pairs", "notes"])
def test_the_jdbc_sink_writes_the_sources_rows(captured: Captured, copy: SourceTables, table: str) -> None:
    assert_equal_rows(map(comparable, copy.rows(f"select * from {table}")), captured.source_rows(table))


def test_the_jdbc_sink_writes_the_placeholder_where_the_replica_identity_is_not_full(
    captured: Captured, copy: SourceTables
) -> None:
    expected = {row["id"]: row for row in captured.source_rows("texts")}
    got = {row["id"]: row for row in copy.rows("select * from texts")}
    overwritten = {number for number, row in got.items() if row["body"] == PLACEHOLDER}
    assert bool(overwritten) == captured.source.is_postgres
    assert got == {
        number: {**row, **({"body": PLACEHOLDER} if number in overwritten else {})} for number, row in expected.items()
    }


# ---- truncates

TRUNCATING = """
name: {prefix}
source: {{url: "{url}", tables: [{namespace}.pairs]}}
log: kafka://{brokers}?registry={registry}&partitions=1
foreign_truncate: true
sinks: []
"""


@pytest.mark.parametrize("server", SOURCES)
def test_a_truncate_is_told_where_it_stands_and_the_jdbc_sink_follows(
    server: str, tmp_path: Path, connect: Connect
) -> None:
    brokers, registry = fix_servers.server(KAFKA).url.removeprefix("kafka://"), fix_servers.server(REGISTRY).url
    prefix = f"t{uuid.uuid4().hex[:10]}"
    Registry(registry).separate_ids(prefix)
    fresh = fresh_postgres_database if server == "POSTGRES18" else fresh_mysql_database
    with (
        fresh(server) as url,
        closing(SourceTables(url)) as source,
        fresh_postgres_database("POSTGRES18") as target,
        closing(SourceTables(target)) as copy,
    ):
        words = {"prefix": prefix, "url": url, "namespace": source.namespace, "brokers": brokers, "registry": registry}
        (tmp_path / "pipeline.yaml").write_text(TRUNCATING.format(**words))

        def capture() -> None:
            ended = tailrace(tmp_path, "capture", str(tmp_path / "pipeline.yaml"), "--until-current")
            assert ended.code == 0, ended.text

        source.run("create table pairs (a integer, step integer not null, b varchar(20), primary key (b, a))")
        source.run("insert into pairs (a, step, b) values (1, 0, 'loaded'), (2, 0, 'loaded')")
        source.connection.commit()
        capture()
        source.run("insert into pairs (a, step, b) values (3, 1, 'gone')")
        source.run("truncate table pairs")
        source.run("insert into pairs (a, step, b) values (2, 2, 'kept')")
        source.connection.commit()
        capture()
        with TopicReader(brokers, Registry(registry), [f"{prefix}.{source.namespace}.pairs"]) as reader:
            records = reader.read()
        assert [record.value and record.value["op"] for record in records] == ["r", "r", "c", "t", "c"]
        told = records[3]
        assert told.key is None
        assert told.value is not None
        assert (told.value["before"], told.value["after"], told.value["transaction"]) == (None, None, None)
        assert told.value["source"]["table"] == "pairs"
        assert told.value["source"]["lsn" if server == "POSTGRES18" else "pos"] > 0
        names = "${source.schema}.${source.table}" if server == "POSTGRES18" else "${source.table}"
        settings = jdbc_sink(target, [records[0].topic], names) | {"truncate.enabled": "true"}
        with connect.connector(settings) as connector:
            wait_until(lambda: connector.has_read(records), 120, "the sink has read the topic")
        assert copy.rows("select a, step, b from pairs") == [{"a": 2, "step": 2, "b": "kept"}]
