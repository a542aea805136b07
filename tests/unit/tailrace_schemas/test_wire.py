"""Bytes: fastavro and the Java client's published hashes as second opinions."""

from __future__ import annotations

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter

from tailrace_log.frames import Clock, TopicBuffer
from tailrace_schemas import wire

_MAYBE = st.none() | st.binary(max_size=40)


@given(st.integers(-(2**63), 2**63 - 1))
def test_longs_are_what_fastavro_reads(value: int) -> None:
    assert fastavro.schemaless_reader(io.BytesIO(wire.long_bytes(value)), "long", None) == value


@given(st.integers(-(2**63), 2**63 - 1))
def test_unscaled_values_have_the_same_bytes_by_both_ways(value: int) -> None:
    small, big = BytesWriter(), BytesWriter()
    wire.put_unscaled(small, value)
    wire.put_unscaled_big(big, value)
    for w in (small, big):
        data = fastavro.schemaless_reader(io.BytesIO(w.getvalue()), "bytes", None)
        assert isinstance(data, bytes)
        assert int.from_bytes(data, "big", signed=True) == value


@given(st.lists(st.tuples(_MAYBE, _MAYBE)))
def test_frames_come_back(records: list[tuple[bytes | None, bytes | None]]) -> None:
    w = BytesWriter()
    for key, value in records:
        wire.put_frame(w, key, value)
    wire.put_frame_with_header(w, b"k", None, b"name", b"content")
    data = w.getvalue()
    assert wire.frames(data) == [*records, (b"k", None)]
    assert wire.count_frames(data) == len(records) + 1


@given(st.lists(st.tuples(_MAYBE, _MAYBE), min_size=1), st.data())
def test_torn_frames_raise(records: list[tuple[bytes | None, bytes | None]], data: st.DataObject) -> None:
    w = BytesWriter()
    for key, value in records:
        wire.put_frame(w, key, value)
    whole = w.getvalue()
    cut = data.draw(st.integers(1, len(whole) - 1))
    try:
        count = wire.count_frames(whole[:cut])
    except (ValueError, IndexError):
        return
    assert count < len(records)


# org.apache.kafka.common.utils.UtilsTest, testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
def test_the_hash_is_the_java_clients(key: bytes) -> None:
    assert wire.murmur2(key, 0) == JAVA[key] & 0x7FFFFFFF
    assert wire.murmur2(b"12345" + key, 5) == JAVA[key] & 0x7FFFFFFF


def test_a_new_key_schema_id_does_not_move_a_key() -> None:
    buffer = TopicBuffer("t", 16, False, Clock())
    body = wire.text_bytes("some key")
    assert buffer.partition_of(wire.header(1) + body) == buffer.partition_of(wire.header(900) + body)


def test_a_buffer_splits_where_the_current_transaction_began() -> None:
    clock = Clock()
    buffer = TopicBuffer("t", 2, False, clock)
    other = TopicBuffer("u", 1, True, clock)
    for transaction in (1, 2):
        clock.transaction += 1
        for n in range(5):
            buffer.append(b"12345" + bytes([n]), bytes([transaction]))
    other.append(None, b"x")
    before = clock.take(True)
    assert {value for _, _, _, frames in before for _, value in wire.frames(frames)} == {b"\1"}
    assert sum(count for _, _, count, _ in before) == 5
    after = clock.take(False)
    assert sum(count for _, _, count, _ in after) == 6
    assert clock.size == 0
    assert clock.take(False) == []
