"""Frames to Kafka messages and back: the two loops that run once per record.

Compiled with mypyc; the same file runs interpreted. A frame is described in `tailrace_schemas.wire`.
"""

from collections.abc import Callable

from confluent_kafka import KafkaError, Message
from librt.strings import BytesWriter, read_i32_le, write_i32_le
from mypy_extensions import i64, u8

from tailrace_schemas.wire import next_frame, put_frame

Report = Callable[[KafkaError | None, Message], None]
Headers = list[tuple[str, bytes]]


def produce_frames(
    produce: Callable[..., None],
    poll: Callable[[float], int],
    topic: str,
    partition: int,
    data: bytes,
    report: Report,
    report_all: bool,
) -> int:
    """Hand every record of `data` to `produce`, in order, with `report` for the delivery of the first and the last of
    them, or of all; returns how many. A full queue is waited for.

    Raises:
        ValueError: `data` is torn.
        KafkaException: a record was refused at once.
    """
    at: i64 = 0
    end: i64 = len(data)
    count: i64 = 0
    while at < end:
        stop: i64 = next_frame(data, at, end)
        key: bytes | None = None
        value: bytes | None = None
        length: i64 = i64(read_i32_le(data, at))
        at += 4
        if length >= 0:
            key = data[at : at + length]
            at += length
        length = i64(read_i32_le(data, at))
        at += 4
        if length >= 0:
            value = data[at : at + length]
            at += length
        told: Report | None = report if report_all or count == 0 or stop == end else None
        while True:
            try:
                if data[at] == 0:
                    produce(topic, value, key, partition, told)
                else:
                    produce(topic, value, key, partition, told, headers=headers_at(data, at))
                break
            except BufferError:
                poll(0.05)
        at = stop
        count += 1
    return int(count)


def headers_at(data: bytes, at: i64) -> Headers:
    """The headers whose count stands at `at`."""
    out: Headers = []
    count: i64 = data[at]
    at += 1
    while count > 0:
        length: i64 = data[at]
        at += 1
        name = data[at : at + length].decode()
        at += length
        length = i64(read_i32_le(data, at))
        at += 4
        out.append((name, data[at : at + length]))
        at += length
        count -= 1
    return out


def take_frames(messages: list[Message], at: int, first: int, last: int) -> tuple[bytes, int, int, int]:
    """Frames of the messages from index `at` on whose offsets lie in first..last; messages before `first` are passed
    over. Returns the frames, how many there are, the index after them, and how many were passed over.

    Raises:
        ValueError: headers that no frame can hold (more than 255, or a name beyond 255 bytes).
    """
    out = BytesWriter()
    index: i64 = at
    size: i64 = len(messages)
    low: i64 = first
    high: i64 = last
    count: i64 = 0
    passed: i64 = 0
    while index < size:
        message = messages[index]
        offset: i64 = message.offset() or 0
        if offset > high:
            break
        if offset < low:
            passed += 1
        else:
            headers = message.headers()
            if headers is None:
                put_frame(out, message.key(), message.value())
            else:
                put_frame_with_headers(out, message.key(), message.value(), headers)
            count += 1
        index += 1
    return out.getvalue(), int(count), int(index), int(passed)


def put_frame_with_headers(out: BytesWriter, key: bytes | None, value: bytes | None, headers: object) -> None:
    """Append one record with the headers of a Kafka message."""
    assert isinstance(headers, list)
    if len(headers) > 255:
        raise ValueError(f"{len(headers)} headers on one record")
    write_i32_le(out, -1 if key is None else len(key))
    out.write(key or b"")
    write_i32_le(out, -1 if value is None else len(value))
    out.write(value or b"")
    out.append(u8(len(headers)))
    for name, content in headers:
        text = name.encode()
        if len(text) > 255:
            raise ValueError(f"a header name of {len(text)} bytes")
        out.append(u8(len(text)))
        out.write(text)
        write_i32_le(out, len(content or b""))
        out.write(content or b"")
