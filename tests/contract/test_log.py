"""The EventLog contract, held by every implementation: memory, embedded and Kafka.

A `Place` is where one pipeline's log lives; `place.log()` is another handle on it, as another process would have.
"""

import json
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fix_kafka import shared_kafka_settings
from librt.strings import BytesWriter

from tailrace_log.embedded import EmbeddedLog
from tailrace_log.kafka import KafkaLog
from tailrace_log.log import (
    Batch,
    CommitRecord,
    DeadLetter,
    EventLog,
    LogReader,
    LogWriter,
    Marker,
    OpenTransaction,
    Range,
)
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import FencedError, InvariantError, PositionLostError, StopError
from tailrace_schemas.wire import put_frame, put_frame_with_header

PIPELINE = "shop"


class Place:
    """Everything it gave out is closed at the end of the test. All topics of a place begin with its prefix."""

    def __init__(self, prefix: str, make: Callable[[], EventLog]) -> None:
        self.prefix = prefix
        self.orders = self.topic("orders")
        self._make = make
        self.stack = ExitStack()

    def topic(self, table: str) -> str:
        return f"{self.prefix}.public.{table}"

    def batch(
        self, count: int, *, topic: str | None = None, partition: int = 0, start: int = 0, counted: bool = True
    ) -> Batch:
        return Batch(topic or self.orders, partition, count, some_frames(count, start=start), counted)

    def log(self) -> EventLog:
        log = self._make()
        self.stack.callback(log.close)
        return log

    def writer(self, *, pipeline: str = PIPELINE, sinks: tuple[str, ...] = ("replica",)) -> LogWriter:
        """Not opened yet."""
        writer = self.log().writer(pipeline, list(sinks))
        self.stack.callback(writer.close)
        return writer

    def reader(self) -> LogReader:
        reader = self.log().reader()
        self.stack.callback(reader.close)
        return reader


def make_place(kind: str, folder: Path) -> Place:
    prefix = f"shop{secrets.token_hex(4)}"
    if kind == "memory":
        memory = MemoryLog(prefix, 3)
        return Place(prefix, lambda: memory)
    if kind == "embedded":
        return Place(prefix, lambda: EmbeddedLog(folder / "log.db", prefix, 3))
    return Place(prefix, lambda: KafkaLog(shared_kafka_settings(prefix)))


@pytest.fixture(params=["memory", "embedded", pytest.param("kafka", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    found = make_place(request.param, tmp_path)
    with found.stack:
        yield found


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.servers)])
def lasting_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A log that outlives its process and is trimmed; that in memory keeps everything."""
    found = make_place(request.param, tmp_path)
    with found.stack:
        yield found


def some_frames(count: int, *, start: int = 0, size: int = 40) -> bytes:
    out = BytesWriter()
    for number in range(start, start + count):
        put_frame(out, b"key %d" % number, (b"value %d " % number).ljust(size, b"."))
    return out.getvalue()


def commit_record(seq: int, *, pipeline: str = PIPELINE, load_full: bool = False, **more: Any) -> CommitRecord:
    base = CommitRecord(seq, pipeline, "stream", {"system": "1"}, f"0/{seq:X}", load_full=load_full, written_ms=1)
    return replace(base, **more)


def opened(place: Place, *, topics: dict[str, int] | None = None, sinks: tuple[str, ...] = ("replica",)) -> LogWriter:
    writer = place.writer(sinks=sinks)
    writer.open()
    writer.ensure_topics({place.orders: 3} if topics is None else topics)
    return writer


def written(place: Place, count: int) -> LogWriter:
    """A log of `count` log transactions of three records each, and its writer."""
    writer = opened(place)
    for seq in range(count):
        writer.write([place.batch(3, start=3 * seq)], commit_record(seq))
    return writer


# ---- dead letters


def letter(place: Place, offset: int, *, sink: str = "replica", value: bytes | None = b"event\0\xff") -> DeadLetter:
    return DeadLetter(sink, "d.t", place.orders, 1, offset, 7, "lsn:0/7", "ROW_REJECTED", "too long", b"key", value)


def test_dead_letters_stand_in_the_log_once_and_outlive_their_reader(place: Place) -> None:
    opened(place)
    reader = place.reader()
    assert reader.dead_letters() == []
    first, second = letter(place, 3), letter(place, 4, value=None)
    reader.set_aside([first, second])
    reader.set_aside([second, letter(place, 4, sink="other")])
    found = place.reader().dead_letters()
    assert found == [first, second, letter(place, 4, sink="other")]


# ---- writing and reading back


def test_what_is_written_is_read_back(place: Place) -> None:
    writer = opened(place)
    batches = [place.batch(3), place.batch(2, partition=2, start=3)]
    sent = commit_record(
        0,
        kind="chunk",
        open=OpenTransaction("7:0/10", 12, 0),
        since=0,
        load={"public.orders": {"1": "done"}},
        consistent=True,
        source_ms=17,
    )

    answer = writer.write(batches, sent)
    reader = place.reader()

    [found] = reader.commits(-1, 10, 10)
    assert found == answer
    assert (found.kind, found.open, found.load, found.source_ms) == (sent.kind, sent.open, sent.load, 17)
    assert [(r.topic, r.partition, r.count) for r in found.ranges] == [(place.orders, 0, 3), (place.orders, 2, 2)]
    assert reader.read(found) == batches


def test_keys_values_tombstones_and_headers_come_back_byte_for_byte(place: Place) -> None:
    out = BytesWriter()
    put_frame(out, b"k", b"v")
    put_frame(out, b"k", None)
    put_frame(out, None, b"keyless")
    put_frame(out, b"", b"")
    put_frame_with_header(out, b"k", b"v2", b"__debezium.oldkey", b"\x00\x01")
    put_frame_with_header(out, b"k", None, b"h", b"")
    put_frame(out, b"\x00" * 300, bytes(range(256)) * 40)
    sent = Batch(place.orders, 1, 7, out.getvalue())

    record = opened(place).write([sent], commit_record(0))

    assert place.reader().read(record) == [sent]


def test_offsets_of_a_partition_continue(place: Place) -> None:
    writer = opened(place)

    first = writer.write([place.batch(3), place.batch(1, partition=1)], commit_record(0))
    second = writer.write([place.batch(2, start=3)], commit_record(1))
    third = writer.write([place.batch(1, start=5)], commit_record(2))

    ranges = [record.ranges[0] for record in (first, second, third)]
    assert ranges[0] == Range(place.orders, 0, 0, 2, 3)
    assert first.ranges[1] == Range(place.orders, 1, 0, 0, 1)
    assert [r.last - r.first + 1 for r in ranges] == [3, 2, 1]
    assert ranges[0].last < ranges[1].first <= ranges[1].last < ranges[2].first


def test_a_log_transaction_without_records_advances_the_position(place: Place) -> None:
    writer = opened(place)
    writer.write([], commit_record(0))
    writer.write([], commit_record(1))

    reader = place.reader()

    assert [record.position for record in reader.commits(-1, 10, 10)] == ["0/0", "0/1"]
    assert reader.read(reader.commits(0, 1, 10)[0]) == []


def test_many_topics_and_partitions_stay_apart(place: Place, seed: int) -> None:
    chance = random.Random(f"{seed} topics and partitions")
    topics = {place.topic(f"t{number}"): 3 for number in range(4)}
    writer = opened(place, topics=topics)
    sent: list[list[Batch]] = []
    for seq in range(12):
        places = chance.sample([(topic, partition) for topic in topics for partition in range(3)], chance.randint(0, 7))
        batches = [
            place.batch(chance.randint(1, 30), topic=topic, partition=partition, start=chance.randint(0, 9999))
            for topic, partition in places
        ]
        writer.write(batches, commit_record(seq))
        sent.append(batches)

    reader = place.reader()

    records = reader.commits(-1, 100, 10)
    assert [record.seq for record in records] == list(range(12))
    assert [reader.read(record) for record in records] == sent


def test_records_can_be_read_again_and_in_any_order(place: Place) -> None:
    written(place, 6)
    reader = place.reader()
    records = reader.commits(-1, 10, 10)

    for seq in (5, 0, 3, 3, 1):
        assert reader.read(records[seq]) == [place.batch(3, start=3 * seq)]


def test_a_large_batch_comes_back_whole(place: Place) -> None:
    out = BytesWriter()
    block = random.Random(5).randbytes(1 << 16)
    for number in range(800):
        put_frame(out, b"%d" % number, block)
    sent = Batch(place.orders, 0, 800, out.getvalue())
    assert len(sent.frames) > 50_000_000

    record = opened(place).write([sent], commit_record(0))

    assert place.reader().read(record) == [sent]


def test_topics_that_are_not_counted_are_not_announced(place: Place) -> None:
    writer = opened(place, topics={place.orders: 3, place.prefix: 1})

    record = writer.write([place.batch(1, topic=place.prefix, counted=False), place.batch(2)], commit_record(0))

    assert [r.topic for r in record.ranges] == [place.orders]
    assert place.reader().read(record) == [place.batch(2)]


def test_markers_get_the_offsets_at_which_they_take_effect(place: Place) -> None:
    writer = opened(place)
    before = writer.write([place.batch(4), place.batch(1, partition=1)], commit_record(0))
    marker = Marker("truncate", "public", "orders", place.orders, {0: 2, 1: 0, 2: 0})

    record = writer.write([place.batch(5, start=4)], commit_record(1, markers=(marker,)))
    after = writer.write([place.batch(1, partition=1), place.batch(1, partition=2)], commit_record(2))

    [found] = place.reader().commits(0, 1, 10)[0].markers
    assert (found.kind, found.schema, found.table, found.topic) == ("truncate", "public", "orders", place.orders)
    assert found.at[0] == record.ranges[0].first + 2
    assert before.ranges[1].last < found.at[1] <= after.ranges[0].first
    assert 0 <= found.at[2] <= after.ranges[1].first


def test_a_sequence_that_does_not_follow_is_a_bug(place: Place) -> None:
    writer = written(place, 2)

    with pytest.raises(InvariantError):
        writer.write([], commit_record(3))

    assert writer.write([], commit_record(2)).seq == 2


# ---- one writer


def test_a_second_writer_fences_the_first(place: Place) -> None:
    first = written(place, 2)
    second = place.writer()
    assert [record.seq for record in second.open()] == [0, 1]

    with pytest.raises(FencedError):
        first.write([place.batch(1, start=99)], commit_record(2))

    record = second.write([place.batch(1, start=6)], commit_record(2))
    reader = place.reader()
    assert [found.seq for found in reader.commits(-1, 10, 10)] == [0, 1, 2]
    assert reader.read(record) == [place.batch(1, start=6)]


def test_a_fenced_writer_may_open_again(place: Place) -> None:
    first = written(place, 1)
    place.writer().open()
    with pytest.raises(FencedError):
        first.write([], commit_record(1))

    assert [record.seq for record in first.open()] == [0]

    assert first.write([place.batch(1)], commit_record(1)).seq == 1


def test_open_returns_the_records_since_the_last_full_load_state(place: Place) -> None:
    writer = opened(place)
    assert place.writer().open() == []
    writer.open()
    sent = [writer.write([place.batch(1)], commit_record(seq, load_full=seq in (1, 4))) for seq in range(7)]

    assert place.writer().open() == sent[4:]


def test_without_a_full_load_state_open_returns_everything(place: Place) -> None:
    written(place, 3)

    assert [record.seq for record in place.writer().open()] == [0, 1, 2]


def test_offsets_continue_under_a_new_writer(place: Place) -> None:
    written(place, 2)
    writer = opened(place)

    record = writer.write([place.batch(3, start=6)], commit_record(2))

    reader = place.reader()
    ranges = [found.ranges[0] for found in reader.commits(-1, 10, 10)]
    assert ranges[1].last < ranges[2].first
    assert reader.read(record) == [place.batch(3, start=6)]


def test_the_log_of_another_pipeline_is_refused(place: Place) -> None:
    written(place, 1)

    with pytest.raises(StopError, match=PIPELINE) as caught:
        place.writer(pipeline="other").open()

    assert caught.value.code == "PREFIX_TAKEN"


def test_a_refused_pipeline_does_not_fence_the_owner(place: Place) -> None:
    writer = written(place, 1)
    with pytest.raises(StopError):
        place.writer(pipeline="other").open()

    assert writer.write([place.batch(1)], commit_record(1)).seq == 1


def test_the_number_of_partitions_may_not_change(place: Place) -> None:
    opened(place, topics={place.orders: 3})
    writer = place.writer()
    writer.open()
    writer.ensure_topics({place.orders: 3})

    with pytest.raises(StopError, match=re.escape(place.orders)) as caught:
        writer.ensure_topics({place.orders: 4})

    assert caught.value.code == "PARTITIONS_CHANGED"


# ---- readers


def test_an_empty_log_has_no_records(place: Place) -> None:
    reader = place.reader()
    assert reader.last_seq() == -1
    opened(place)

    begun = time.monotonic()
    assert reader.commits(-1, 10, 0.05) == []

    assert time.monotonic() - begun >= 0.05
    assert place.reader().last_seq() == -1


def test_last_seq_is_that_of_the_newest_record(place: Place) -> None:
    reader = place.reader()
    writer = written(place, 3)
    assert reader.last_seq() == 2

    writer.write([], commit_record(3))

    assert reader.last_seq() == 3
    assert place.reader().last_seq() == 3


def test_commits_are_consecutive_and_limited(place: Place) -> None:
    written(place, 7)
    reader = place.reader()

    assert [record.seq for record in reader.commits(-1, 3, 10)] == [0, 1, 2]
    assert [record.seq for record in reader.commits(2, 3, 10)] == [3, 4, 5]
    assert [record.seq for record in reader.commits(5, 3, 10)] == [6]
    assert reader.commits(6, 3, 0.01) == []


def test_a_reader_that_joins_late_begins_where_it_says(place: Place) -> None:
    written(place, 7)
    reader = place.reader()

    records = reader.commits(4, 10, 10)

    assert [record.seq for record in records] == [5, 6]
    assert reader.read(records[0]) == [place.batch(3, start=15)]


def test_a_reader_may_go_back(place: Place) -> None:
    written(place, 5)
    reader = place.reader()
    assert [record.seq for record in reader.commits(3, 10, 10)] == [4]

    assert [record.seq for record in reader.commits(0, 2, 10)] == [1, 2]


def test_a_waiting_reader_is_woken_by_the_next_record(place: Place) -> None:
    writer = written(place, 1)
    reader = place.reader()
    assert len(reader.commits(-1, 10, 10)) == 1
    found: list[CommitRecord] = []
    thread = threading.Thread(target=lambda: found.extend(reader.commits(0, 10, 60)))
    thread.start()

    writer.write([place.batch(1)], commit_record(1))
    thread.join(20)

    assert [record.seq for record in found] == [1]


def test_two_readers_do_not_disturb_each_other(place: Place) -> None:
    written(place, 4)
    one, other = place.reader(), place.reader()

    assert [record.seq for record in one.commits(-1, 2, 10)] == [0, 1]
    assert [record.seq for record in other.commits(-1, 10, 10)] == [0, 1, 2, 3]
    assert [record.seq for record in one.commits(1, 10, 10)] == [2, 3]


def test_a_log_that_ends_before_the_progress_of_a_sink_has_lost_records(place: Place) -> None:
    written(place, 2)

    with pytest.raises(PositionLostError) as caught:
        place.reader().commits(2, 10, 10)

    assert caught.value.code == "OFFSET_LOST"


# ---- retention


def trimmed(place: Place, *, applied: int, more: int, sinks: tuple[str, ...] = ("replica",)) -> LogWriter:
    """A log of 10 records, applied by `replica` up to `applied`, then of `more` records that give time to trim."""
    writer = opened(place, sinks=sinks)
    for seq in range(10):
        writer.write([place.batch(2, start=2 * seq)], commit_record(seq, load_full=True))
    reader = place.log().reader()
    reader.applied("replica", applied)
    reader.close()
    for seq in range(10, 10 + more):
        writer.write([place.batch(2, start=2 * seq)], commit_record(seq, load_full=True))
    return writer


def test_what_every_sink_has_applied_is_gone(lasting_place: Place) -> None:
    trimmed(lasting_place, applied=6, more=2)
    reader = lasting_place.reader()

    with pytest.raises(PositionLostError) as caught:
        reader.commits(3, 10, 10)

    assert caught.value.code == "OFFSET_LOST"
    records = reader.commits(6, 10, 10)
    assert [record.seq for record in records] == [7, 8, 9, 10, 11]
    assert [reader.read(record) for record in records] == [
        [lasting_place.batch(2, start=2 * seq)] for seq in range(7, 12)
    ]


def test_the_slowest_sink_keeps_the_log(place: Place) -> None:
    trimmed(place, applied=6, more=2, sinks=("replica", "slow"))
    reader = place.reader()

    records = reader.commits(-1, 100, 10)

    assert [record.seq for record in records] == list(range(12))
    assert reader.read(records[0]) == [place.batch(2, start=0)]


def test_a_sink_that_left_the_pipeline_does_not_keep_the_log(lasting_place: Place) -> None:
    trimmed(lasting_place, applied=6, more=0, sinks=("replica", "left"))
    writer = opened(lasting_place, sinks=("replica",))
    for seq in (10, 11):
        writer.write([], commit_record(seq, load_full=True))

    with pytest.raises(PositionLostError):
        lasting_place.reader().commits(2, 10, 10)


def test_the_last_record_and_the_last_full_load_state_are_never_trimmed(place: Place) -> None:
    writer = opened(place)
    sent = [writer.write([place.batch(1)], commit_record(seq, load_full=seq == 2)) for seq in range(6)]
    reader = place.log().reader()
    reader.applied("replica", 5)
    reader.close()
    sent += [writer.write([place.batch(1)], commit_record(seq)) for seq in (6, 7)]

    assert place.writer().open() == sent[2:]
    assert place.reader().last_seq() == 7


# ---- identity and registry


def test_the_log_id_belongs_to_the_log_not_to_the_handle(place: Place) -> None:
    first = place.log()
    written(place, 1)

    assert place.log().log_id == first.log_id
    assert first.log_id


@pytest.mark.parametrize("place", ["memory", "embedded"], indirect=True)
def test_size_is_that_of_the_records(place: Place) -> None:
    writer = opened(place)
    log = place.log()
    before = log.size_bytes()

    content = random.Random(3).randbytes(600_000)
    out = BytesWriter()
    put_frame(out, b"k", content)
    writer.write([Batch(place.orders, 0, 1, out.getvalue())], commit_record(0))

    assert log.size_bytes() >= before + 600_000


def avro(name: str) -> str:
    return json.dumps({"type": "record", "name": name, "fields": [{"name": "id", "type": "int"}]})


def test_the_same_schema_of_a_subject_has_one_id_for_ever(place: Place) -> None:
    registry = place.log().registry
    first = registry.register(f"{place.orders}-value", avro("orders"))
    other = registry.register(f"{place.orders}-key", avro("orders_key"))

    assert registry.register(f"{place.orders}-value", avro("orders")) == first
    assert place.log().registry.register(f"{place.orders}-value", avro("orders")) == first
    assert first != other


def test_a_schema_is_found_by_its_id_from_any_handle(place: Place) -> None:
    known = place.log().registry.register(f"{place.orders}-value", avro("orders"))

    assert place.log().registry.schema(known) == avro("orders")


def test_an_unknown_schema_id_is_named(place: Place) -> None:
    with pytest.raises(StopError, match="987654") as caught:
        place.log().registry.schema(987654)

    assert caught.value.code == "UNKNOWN_SCHEMA"
