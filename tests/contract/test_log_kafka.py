"""The Kafka log where the contract meets brokers: zombies, aborts, a killed broker, other people's records, TLS."""

import io
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, TypeVar

import fastavro
import fix_log_child
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from fix_kafka import kafka_settings, shared_kafka_settings
from fix_servers import KAFKA, certificates, free_ports, private_server, secure_kafka, server, wait_until
from librt.strings import BytesWriter

from tailrace_log.kafka import KafkaLog
from tailrace_log.kafka_reader import KafkaReader
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.kafka_writer import KafkaWriter
from tailrace_log.log import Batch, CommitRecord, Range
from tailrace_schemas.errors import (
    ConfigError,
    FencedError,
    InvariantError,
    LogUnavailableError,
    OutcomeUnknownError,
    PositionLostError,
    RetryableError,
    StopError,
)
from tailrace_schemas.uri import Secret
from tailrace_schemas.wire import header, put_frame

pytestmark = pytest.mark.servers
T = TypeVar("T")


@pytest.fixture
def prefix() -> str:
    return f"k{os.urandom(4).hex()}"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def a_writer(settings: KafkaSettings, stack: ExitStack, *, topics: dict[str, int] | None = None) -> KafkaWriter:
    writer = KafkaLog(settings).writer("shop", ["replica"])
    stack.callback(writer.close)
    writer.open()
    writer.ensure_topics({f"{settings.prefix}.public.t": 2} if topics is None else topics)
    return writer


def a_reader(settings: KafkaSettings, stack: ExitStack) -> KafkaReader:
    reader = KafkaLog(settings).reader()
    stack.callback(reader.close)
    return reader


def batch(topic: str, count: int, *, start: int = 0, partition: int = 0, size: int = 30) -> Batch:
    out = BytesWriter()
    for number in range(start, start + count):
        put_frame(out, b"%d" % number, (b"value %d" % number).ljust(size, b"."))
    return Batch(topic, partition, count, out.getvalue())


def record(seq: int) -> CommitRecord:
    return CommitRecord(seq, "shop", "stream", {}, f"{seq}", load_full=seq == 0)


def consumed(brokers: str, topic: str, isolation: str) -> list[tuple[bytes | None, bytes | None]]:
    """Key and value of every record of partition 0, as a plain Kafka client sees it."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "plain",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    with closing(consumer):
        consumer.assign([TopicPartition(topic, 0, 0)])
        out: list[tuple[bytes | None, bytes | None]] = []
        while (message := consumer.poll(30)) is not None:
            error = message.error()
            if error is None:
                out.append((message.key(), message.value()))
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                return out
    raise AssertionError(f"{topic} could not be read to its end")


# ---- aborted and foreign records


def fail_after_the_records(producer: Producer, written: CommitRecord) -> int:
    raise LogUnavailableError("the broker went away before the commit record")


def test_an_aborted_log_transaction_is_seen_by_nobody_who_reads_committed(
    prefix: str, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    first = writer.write([batch(topic, 2)], record(0))
    with monkeypatch.context() as patched, pytest.raises(LogUnavailableError):
        patched.setattr(writer, "_send_record", fail_after_the_records)
        writer.write([batch(topic, 3, start=100)], record(1))

    second = writer.write([batch(topic, 2, start=2)], record(1))

    reader = a_reader(settings, stack)
    assert reader.commits(-1, 10, 10) == [first, second]
    assert [reader.read(found) for found in (first, second)] == [[batch(topic, 2)], [batch(topic, 2, start=2)]]
    assert second.ranges[0].first > first.ranges[0].last + 4
    brokers = ",".join(settings.brokers)
    keys = [b"0", b"1", b"2", b"3"]
    assert [key for key, _ in consumed(brokers, topic, "read_committed")] == keys
    # Rule C6: what a consumer at the default of the Java client takes for rows.
    uncommitted = [key for key, _ in consumed(brokers, topic, "read_uncommitted")]
    assert uncommitted == [b"0", b"1", b"100", b"101", b"102", b"2", b"3"]


def test_the_commit_record_of_an_aborted_log_transaction_does_not_exist(
    prefix: str, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    writer.write([batch(topic, 1)], record(0))
    reader = a_reader(settings, stack)
    assert [found.seq for found in reader.commits(-1, 10, 10)] == [0]

    def not_committed(producer: Producer) -> None:
        # The commit record is with the broker now, but its transaction is still open.
        assert reader.commits(0, 10, 0.5) == []
        assert reader.last_seq() == 0
        producer.abort_transaction(30)
        raise LogUnavailableError("not committed")

    with monkeypatch.context() as patched, pytest.raises(LogUnavailableError):
        patched.setattr(writer, "_commit", not_committed)
        writer.write([batch(topic, 1, start=7)], record(1))

    assert reader.commits(0, 10, 0.5) == []
    second = writer.write([batch(topic, 1, start=1)], record(1))
    assert reader.commits(0, 10, 10) == [second]
    assert reader.read(second) == [batch(topic, 1, start=1)]
    assert writer.open() == reader.commits(-1, 10, 10)


@pytest.mark.case("K7", verdict="=")
def test_records_of_a_foreign_producer_are_ignored_and_counted(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    foreign = Producer({"bootstrap.servers": ",".join(settings.brokers)})
    written = []
    for seq in range(4):
        for number in range(seq):
            foreign.produce(topic, b"foreign %d" % number, partition=0)
        assert foreign.flush(30) == 0
        written.append(writer.write([batch(topic, 3, start=3 * seq)], record(seq)))

    reader = a_reader(settings, stack)

    assert [reader.read(found) for found in written] == [[batch(topic, 3, start=3 * seq)] for seq in range(4)]
    assert reader.ignored == 1 + 2 + 3


def test_a_foreign_record_between_ours_is_never_announced(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix, extra={"batch.size": "2000"})
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    foreign = Producer({"bootstrap.servers": ",".join(settings.brokers), "linger.ms": 0})
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            foreign.produce(topic, b"foreign", partition=0)
            foreign.flush(10)

    thread = threading.Thread(target=disturb)
    thread.start()
    written: list[CommitRecord] = []
    refused, deadline = False, time.monotonic() + 60
    try:
        while not refused:
            assert time.monotonic() < deadline, "3,000 records lay behind each other each time"
            try:
                written.append(writer.write([batch(topic, 3000)], record(len(written))))
            except LogUnavailableError as error:
                refused = "do not lie behind each other" in error.message
    finally:
        over.set()
        thread.join()

    written.append(writer.write([batch(topic, 3000)], record(len(written))))

    reader = a_reader(settings, stack)
    assert reader.commits(-1, 100_000, 10) == written
    assert [reader.read(found) for found in written] == [[batch(topic, 3000)]] * len(written)


def test_a_plain_consumer_with_fastavro_reads_the_same_records(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    schema = {"type": "record", "name": f"{prefix}.t", "fields": [{"name": "id", "type": "long"}]}
    log = KafkaLog(settings)
    schema_id = log.registry.register(f"{topic}-value", json.dumps(schema))
    rows = [{"id": number} for number in (1, -7, 2**60)]
    out = BytesWriter()
    for row in rows:
        avro = io.BytesIO()
        fastavro.schemaless_writer(avro, fastavro.parse_schema(schema), row)
        put_frame(out, b"k", header(schema_id) + avro.getvalue())
    a_writer(settings, stack).write([Batch(topic, 0, 3, out.getvalue())], record(0))

    found = []
    for _, value in consumed(",".join(settings.brokers), topic, "read_committed"):
        assert value is not None and value[0] == 0
        with urllib.request.urlopen(f"{settings.registry.url}/schemas/ids/{int.from_bytes(value[1:5])}") as answer:
            writer_schema = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        found.append(fastavro.schemaless_reader(io.BytesIO(value[5:]), writer_schema, None))

    assert found == rows


# ---- what is not there


def test_announced_records_that_are_not_there_yet_are_waited_for(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix, timeout_seconds=2.0)
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    writer.write([batch(topic, 2)], record(0))
    reader = a_reader(settings, stack)
    announced = CommitRecord(1, "shop", "stream", {}, "1", ranges=(Range(topic, 0, 3, 4, 2),))

    with pytest.raises(LogUnavailableError):
        reader.read(announced)

    writer.write([batch(topic, 2, start=2)], record(1))
    assert reader.read(announced) == [batch(topic, 2, start=2)]


def test_a_hole_inside_an_announced_range_stops(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    writer.write([batch(topic, 2)], record(0))
    writer.write([batch(topic, 2)], record(1))

    with pytest.raises(StopError) as caught:  # offset 2 is the broker's own record
        a_reader(settings, stack).read(replace_range(record(0), Range(topic, 0, 0, 3, 4)))

    assert caught.value.code == "OFFSET_LOST"


def replace_range(base: CommitRecord, announced: Range) -> CommitRecord:
    return CommitRecord(base.seq, base.pipeline, base.kind, {}, base.position, ranges=(announced,))


@pytest.mark.case("G5", verdict="STOP(OFFSET_LOST)")
def test_records_removed_by_retention_are_lost(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    written = [writer.write([batch(topic, 5)], record(seq)) for seq in range(3)]
    admin = AdminClient({"bootstrap.servers": ",".join(settings.brokers)})
    for future in admin.delete_records([TopicPartition(topic, 0, written[1].ranges[0].first + 1)]).values():
        future.result()

    reader = a_reader(settings, stack)

    with pytest.raises(PositionLostError) as caught:
        reader.read(written[1])
    assert caught.value.code == "OFFSET_LOST"
    assert a_reader(settings, stack).read(written[2]) == [batch(topic, 5)]


def recreate(settings: KafkaSettings, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": ",".join(settings.brokers)})
    for deleted in admin.delete_topics([topic], operation_timeout=30).values():
        deleted.result()
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, 30, f"{topic} is deleted")


@pytest.mark.case("G5", verdict="STOP(OFFSET_LOST)")
def test_a_data_topic_made_again_is_noticed_by_the_reader(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    with closing(KafkaLog(settings).writer("shop", [])) as writer:
        writer.open()
        writer.ensure_topics({topic: 2})
        writer.write([batch(topic, 3)], record(0))
    recreate(settings, topic)
    stranger = a_writer(shared_kafka_settings(f"{prefix}x"), stack, topics={topic: 2})
    stranger.write([batch(topic, 3, start=50)], record(0))

    reader = a_reader(settings, stack)
    [found] = reader.commits(-1, 10, 10)

    with pytest.raises(PositionLostError, match="not the one") as caught:
        reader.read(found)
    assert caught.value.code == "OFFSET_LOST"


def test_a_data_topic_made_again_is_noticed_by_the_writer(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix)
    topic = f"{prefix}.public.t"
    a_writer(settings, stack).write([batch(topic, 3)], record(0))
    recreate(settings, topic)
    writer = a_writer(settings, stack)

    with pytest.raises(StopError) as caught:
        writer.write([batch(topic, 3)], record(1))

    assert caught.value.code == "OFFSET_LOST"


def test_a_commit_topic_made_again_is_another_log(prefix: str) -> None:
    settings = shared_kafka_settings(prefix)
    before = KafkaLog(settings).log_id
    recreate(settings, f"__tailrace-commit.{prefix}")

    assert KafkaLog(settings).log_id != before


def test_a_topic_that_was_never_made_is_a_bug(prefix: str, stack: ExitStack) -> None:
    writer = a_writer(shared_kafka_settings(prefix), stack)

    with pytest.raises(InvariantError):
        writer.write([batch(f"{prefix}.public.other", 1)], record(0))

    assert writer.write([], record(0)).seq == 0


def test_a_record_that_no_topic_takes_is_named_and_blocks_nothing_else(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix, topics={"max.message.bytes": "50000"})
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    large = BytesWriter()
    for number in range(9):
        # In the middle, where no delivery report is asked for at first; incompressible.
        put_frame(large, b"%d" % number, os.urandom(200_000 if number == 4 else 10))

    error: Exception | None = None
    for _ in range(3):
        try:
            writer.write([Batch(topic, 0, 9, large.getvalue())], record(0))
        except LogUnavailableError:
            continue
        except StopError as stop:
            error = stop
            break

    assert isinstance(error, StopError)
    assert error.code == "TOO_LARGE"
    written_through(writer, [batch(topic, 2)], 0, time.monotonic() + 60)


# ---- zombies


def zombie_child(settings: KafkaSettings, last: int) -> "subprocess.Popen[bytes]":
    arguments = [sys.executable, fix_log_child.__file__, "write", f"kafka://{','.join(settings.brokers)}", str(last)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CRASH_PREFIX": settings.prefix}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def test_a_writer_frozen_while_another_took_over_writes_nothing_more(prefix: str, stack: ExitStack, seed: int) -> None:
    chance = random.Random(f"{seed} freeze the Kafka writer")
    settings = shared_kafka_settings(prefix)
    topics = fix_log_child.topics_of(prefix)
    with zombie_child(settings, 100_000) as zombie:
        assert zombie.stdout is not None
        for _ in range(5):
            assert select.select([zombie.stdout], [], [], 60)[0]
            zombie.stdout.readline()
        select.select([], [], [], chance.uniform(0, 0.03))  # anywhere inside a log transaction
        zombie.send_signal(signal.SIGSTOP)
        writer = KafkaLog(settings).writer("crash", [fix_log_child.SINK])
        stack.callback(writer.close)
        taken_over = writer.open()[-1].seq
        writer.ensure_topics(dict.fromkeys(topics, 2))
        for seq in range(taken_over + 1, taken_over + 4):
            writer.write(fix_log_child.batches_of(seq, prefix), fix_log_child.record_of(seq, prefix))
        zombie.send_signal(signal.SIGCONT)
        output, complaint = zombie.communicate(timeout=120)

    assert b"FencedError" in complaint
    assert max([int(line) for line in output.split()], default=0) <= taken_over
    writer.write(fix_log_child.batches_of(taken_over + 4, prefix), fix_log_child.record_of(taken_over + 4, prefix))
    reader = a_reader(settings, stack)
    records = reader.commits(-1, 1000, 10)
    assert [found.seq for found in records] == list(range(taken_over + 5))
    assert all(reader.read(found) == fix_log_child.batches_of(found.seq, prefix) for found in records)


def test_a_killed_writer_leaves_whole_log_transactions_and_all_it_acknowledged(
    prefix: str, stack: ExitStack, seed: int
) -> None:
    chance = random.Random(f"{seed} kill the Kafka writer")
    settings = shared_kafka_settings(prefix)
    last, acknowledged = 59, -1
    while acknowledged < last:
        with zombie_child(settings, last) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(5, 20)):
                if not select.select([writer.stdout], [], [], 60)[0] or not (line := writer.stdout.readline()):
                    break
                acknowledged = int(line)
            select.select([], [], [], chance.uniform(0, 0.03))
            writer.kill()
            rest = writer.stdout.read().split(b"\n")[:-1]
            acknowledged = max([acknowledged, *(int(line) for line in rest)])

    reader = a_reader(settings, stack)
    records = reader.commits(-1, 1000, 10)
    assert [found.seq for found in records] == list(range(last + 1))
    assert all(reader.read(found) == fix_log_child.batches_of(found.seq, prefix) for found in records)


# ---- brokers that break


def written_through(writer: KafkaWriter, batches: list[Batch], seq: int, deadline: float) -> None:
    """Write as capture does: try again, and after an unknown outcome open and look."""
    while True:
        try:
            writer.write(batches, record(seq))
        except (OutcomeUnknownError, FencedError):
            if opened_through(writer, deadline) == seq:
                return
        except LogUnavailableError:
            assert time.monotonic() < deadline
        else:
            return


def opened_through(writer: KafkaWriter, deadline: float) -> int:
    records = retried(writer.open, deadline)
    return records[-1].seq if records else -1


def retried(call: Callable[[], T], deadline: float) -> T:
    while True:
        try:
            return call()
        except RetryableError:
            assert time.monotonic() < deadline


@pytest.mark.timeout(240)
def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(prefix: str, stack: ExitStack, seed: int) -> None:
    chance = random.Random(f"{seed} kill the broker")
    broker = stack.enter_context(private_server(KAFKA))
    settings = kafka_settings(f"{broker.host}:{broker.port}", prefix, timeout_seconds=15.0, transaction_timeout_ms=5000)
    topic = f"{prefix}.public.t"
    writer = a_writer(settings, stack)
    over, count = threading.Event(), 0

    def kill_and_start() -> None:
        for _ in range(2):
            over.wait(chance.uniform(0.2, 1.5))
            broker.kill()
            broker.start()

    thread = threading.Thread(target=kill_and_start)
    thread.start()
    deadline = time.monotonic() + 180
    while thread.is_alive() or count < 50:
        batches = [batch(topic, 50, start=count), batch(topic, 3, partition=1, start=count)]
        written_through(writer, batches, count, deadline)
        count += 1
    thread.join()

    reader = retried(lambda: a_reader(settings, stack), deadline)
    records = retried(lambda: reader.commits(-1, 100_000, 30), deadline)
    assert [found.seq for found in records] == list(range(count))
    for found in records:
        assert retried(partial(reader.read, found), deadline) == [
            batch(topic, 50, start=found.seq),
            batch(topic, 3, partition=1, start=found.seq),
        ]


def test_brokers_out_of_reach_are_retryable(prefix: str) -> None:
    [port] = free_ports(1)

    with pytest.raises(LogUnavailableError, match=str(port)):
        KafkaLog(kafka_settings(f"127.0.0.1:{port}", prefix, timeout_seconds=1.0))


# ---- who may enter


@pytest.fixture(scope="module")
def secure() -> Iterator[Any]:
    with secure_kafka() as broker:
        yield broker


def sasl(broker: Any, prefix: str, user: str, password: str, mechanism: str = "SCRAM-SHA-256") -> KafkaSettings:
    return kafka_settings(
        broker.sasl_plaintext,
        prefix,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism=mechanism,
        user=user,
        password=Secret(password),
        timeout_seconds=10.0,
    )


def goes_through(settings: KafkaSettings, stack: ExitStack) -> None:
    topic = f"{settings.prefix}.public.t"
    written = a_writer(settings, stack).write([batch(topic, 3)], record(0))
    assert a_reader(settings, stack).read(written) == [batch(topic, 3)]


def test_a_user_enters_by_scram(secure: Any, prefix: str, stack: ExitStack) -> None:
    goes_through(sasl(secure, prefix, "alice", "pw"), stack)


def test_a_user_enters_by_plain_over_tls(secure: Any, prefix: str, stack: ExitStack) -> None:
    settings = kafka_settings(
        secure.sasl_ssl,
        prefix,
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        user="plain",
        password=Secret("pw"),
        extra={"ssl.ca.location": str(certificates() / "ca.crt")},
    )
    goes_through(settings, stack)


def test_a_certificate_enters_by_mutual_tls(secure: Any, prefix: str, stack: ExitStack) -> None:
    folder = certificates()
    files = {"ssl.ca.location": "ca.crt", "ssl.certificate.location": "server.crt", "ssl.key.location": "server.key"}
    extra = {key: str(folder / name) for key, name in files.items()}
    goes_through(kafka_settings(secure.mutual_tls, prefix, security_protocol="SSL", extra=extra), stack)


def test_a_wrong_password_is_named_at_once_and_not_printed(secure: Any, prefix: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        KafkaLog(sasl(secure, prefix, "alice", "c4nary"))

    assert caught.value.code == "KAFKA_AUTH"
    assert time.monotonic() - begun < 8
    assert "c4nary" not in f"{caught.value} {caught.value.__cause__!r}"


def test_a_broker_with_another_ca_is_not_trusted(secure: Any, prefix: str) -> None:
    settings = kafka_settings(
        secure.sasl_ssl,
        prefix,
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        user="plain",
        password=Secret("pw"),
        extra={"ssl.ca.location": str(certificates() / "other-ca.crt")},
    )

    with pytest.raises(ConfigError) as caught:
        KafkaLog(settings)

    assert caught.value.code == "KAFKA_TLS"


def test_a_user_without_rights_is_told_which_to_grant(secure: Any, prefix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KafkaLog(sasl(secure, prefix, "bob", "pw", "SCRAM-SHA-512"))

    assert caught.value.code == "KAFKA_ACL"
    assert f"__tailrace-commit.{prefix}" in caught.value.hint


# ---- settings


def test_a_key_that_librdkafka_does_not_know_is_a_configuration_error(prefix: str) -> None:
    with pytest.raises(ConfigError, match="settings"):
        KafkaLog(shared_kafka_settings(prefix, extra={"no.such.key": "1"}))


def test_a_topic_setting_that_kafka_refuses_is_a_configuration_error(prefix: str, stack: ExitStack) -> None:
    with pytest.raises(ConfigError):
        a_writer(shared_kafka_settings(prefix, topics={"retention.ms": "soon"}), stack)


def test_topics_get_the_declared_settings(prefix: str, stack: ExitStack) -> None:
    settings = shared_kafka_settings(prefix, topics={"retention.ms": "12345678"})
    a_writer(settings, stack)
    admin = AdminClient({"bootstrap.servers": server(KAFKA).url.removeprefix("kafka://")})

    def config(topic: str) -> dict[str, str]:
        [future] = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
        return {name: entry.value for name, entry in future.result().items()}

    data, commits = config(f"{prefix}.public.t"), config(f"__tailrace-commit.{prefix}")
    assert (data["retention.ms"], data["cleanup.policy"]) == ("12345678", "delete")
    assert (commits["retention.ms"], commits["cleanup.policy"]) == ("-1", "delete")


def test_data_topics_of_our_sinks_cannot_be_compacted(prefix: str) -> None:
    log = KafkaLog(shared_kafka_settings(prefix, topics={"cleanup.policy": "compact,delete"}))

    with pytest.raises(ConfigError, match="compacted"):
        log.writer("shop", ["replica"])


# ---- registry


@pytest.mark.case("K8", verdict="STOP(SCHEMA)")
def test_an_incompatible_schema_stops_with_the_registered_one_named(prefix: str) -> None:
    settings = shared_kafka_settings(prefix)
    registry, subject = KafkaLog(settings).registry, f"{prefix}-value"

    def avro(kind: str) -> str:
        return json.dumps({"type": "record", "name": "t", "fields": [{"name": "id", "type": kind}]})

    known = registry.register(subject, avro("string"))
    request = urllib.request.Request(
        f"{settings.registry.url}/config/{subject}",
        json.dumps({"compatibility": "BACKWARD"}).encode(),
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
        method="PUT",
    )
    urllib.request.urlopen(request).close()

    with pytest.raises(StopError, match=subject) as caught:
        registry.register(subject, avro("int"))

    assert caught.value.code == "SCHEMA"
    assert f"id {known}" in caught.value.detail
