"""Frames to Kafka messages and back: the loops that run once per record.

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


class Run:
    """Records of neighbouring offsets, as frames."""

    def __init__(self, first: i64) -> None:
        self.first: i64 = first
        self.count: i64 = 0
        self.frames: BytesWriter = BytesWriter()


class Arrivals:
    """What has come in of one partition and is not taken yet. `position`: the offset after the last record or end that
    came in; `size`: bytes of frames."""

    def __init__(self, position: i64) -> None:
        self.position: i64 = position
        self.size: i64 = 0
        self.paused = False
        self.runs: list[Run] = []

    @property
    def first(self) -> int:
        """The lowest offset that can still be taken."""
        return int(self.runs[0].first) if self.runs else int(self.position)

    def put(self, message: Message) -> None:
        """
        Raises:
            ValueError: headers that no frame can hold (more than 255, or a name beyond 255 bytes).
        """
        offset: i64 = message.offset() or 0
        run = self.runs[len(self.runs) - 1] if self.runs else None
        if run is None or run.first + run.count != offset:
            run = Run(offset)
            self.runs.append(run)
        before: i64 = len(run.frames)
        headers = message.headers()
        if headers is None:
            put_frame(run.frames, message.key(), message.value())
        else:
            put_frame_with_headers(run.frames, message.key(), message.value(), headers)
        run.count += 1
        self.size += len(run.frames) - before
        self.position = offset + 1

    def take(self, first: i64, last: i64) -> tuple[bytes, int, int]:
        """Frames of the records with offsets in first..last, how many there are, and how many before them were passed
        over. None of these can be taken again."""
        parts: list[bytes] = []
        count: i64 = 0
        passed: i64 = 0
        while self.runs and self.runs[0].first <= last:
            run = self.runs.pop(0)
            data = run.frames.getvalue()
            self.size -= len(data)
            stop: i64 = run.first + run.count
            if first <= run.first and stop <= last + 1:
                parts.append(data)
                count += run.count
                continue
            low: i64 = 0
            offset: i64 = run.first
            while offset < first and offset < stop:
                low = next_frame(data, low, len(data))
                offset += 1
            passed += offset - run.first
            high: i64 = low
            while offset <= last and offset < stop:
                high = next_frame(data, high, len(data))
                offset += 1
                count += 1
            if high > low:
                parts.append(data[low:high])
            if offset < stop:
                rest = Run(offset)
                rest.count = stop - offset
                rest.frames.write(data[high:])
                self.size += len(data) - high
                self.runs.insert(0, rest)
        return parts[0] if len(parts) == 1 else b"".join(parts), int(count), int(passed)


def sort_in(messages: list[Message], places: dict[tuple[str, int], Arrivals]) -> list[Message]:
    """Put the records of `messages` where they belong, those of unknown places nowhere. Returns the errors among them.

    Raises:
        ValueError: see `Arrivals.put`.
    """
    errors: list[Message] = []
    topic = ""
    partition = -1
    place: Arrivals | None = None
    for message in messages:
        if message.error() is not None:
            errors.append(message)
            continue
        its_topic, its_partition = message.topic() or "", message.partition() or 0
        if its_partition != partition or its_topic != topic:
            topic, partition = its_topic, its_partition
            place = places.get((topic, partition))
        if place is not None:
            place.put(message)
    return errors


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
