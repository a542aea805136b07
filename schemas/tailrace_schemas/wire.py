"""Bytes of events: Avro primitives, the Confluent header, record frames, and the partition hash.

Compiled with mypyc; the same file runs interpreted. A *frame* is one record as it stands in a batch of one
topic-partition: key length, key, value length, value (lengths 32-bit little-endian, -1 = null), number of headers,
then per header a length byte, the name, a 32-bit length and the value. Batches in memory, in the embedded log and in
sinks are concatenated frames, so no row needs an object of its own.
Formats: Apache Avro 1.11 specification, "Binary Encoding"; Confluent Schema Registry documentation, "Wire format".
"""

from librt.strings import BytesWriter, read_i32_le, write_i32_le
from mypy_extensions import i64, u8

NULL_LENGTH = -1


def put_long(w: BytesWriter, v: i64) -> None:
    """Avro int or long: zig-zag, 7 bits a byte, least significant first."""
    z: i64 = (v << 1) ^ (v >> 63)
    while z > 0x7F or z < 0:
        w.append(u8((z & 0x7F) | 0x80))
        z = (z >> 7) & 0x1FFFFFFFFFFFFFF
    w.append(u8(z))


def put_bytes(w: BytesWriter, data: bytes) -> None:
    """Avro bytes, or a string already in UTF-8."""
    put_long(w, len(data))
    w.write(data)


def put_text(w: BytesWriter, text: str) -> None:
    put_bytes(w, text.encode())


def put_unscaled(w: BytesWriter, v: i64) -> None:
    """Avro decimal: the shortest big-endian two's complement form of an unscaled value that fits 64 bits."""
    size: i64 = 1
    limit: i64 = 128
    while size < 8 and (v >= limit or v < -limit):
        size += 1
        limit = limit << 8
    put_long(w, size)
    shift: i64 = (size - 1) * 8
    while shift >= 0:
        w.append(u8((v >> shift) & 0xFF))
        shift -= 8


def put_unscaled_big(w: BytesWriter, value: int) -> None:
    """As `put_unscaled`, for any size."""
    put_bytes(w, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def put_header(w: BytesWriter, schema_id: i64) -> None:
    """Confluent framing: magic byte 0 and the schema id, big-endian."""
    w.append(0)
    w.append(u8((schema_id >> 24) & 0xFF))
    w.append(u8((schema_id >> 16) & 0xFF))
    w.append(u8((schema_id >> 8) & 0xFF))
    w.append(u8(schema_id & 0xFF))


def header(schema_id: int) -> bytes:
    w = BytesWriter()
    put_header(w, schema_id)
    return w.getvalue()


def long_bytes(value: int) -> bytes:
    w = BytesWriter()
    put_long(w, value)
    return w.getvalue()


def text_bytes(text: str) -> bytes:
    w = BytesWriter()
    put_text(w, text)
    return w.getvalue()


def put_frame(out: BytesWriter, key: bytes | None, value: bytes | None) -> None:
    """Append one record without headers."""
    if key is None:
        write_i32_le(out, -1)
    else:
        write_i32_le(out, len(key))
        out.write(key)
    if value is None:
        write_i32_le(out, -1)
    else:
        write_i32_le(out, len(value))
        out.write(value)
    out.append(0)


def put_frame_with_header(
    out: BytesWriter, key: bytes | None, value: bytes | None, name: bytes, content: bytes
) -> None:
    """Append one record with one header."""
    if key is None:
        write_i32_le(out, -1)
    else:
        write_i32_le(out, len(key))
        out.write(key)
    if value is None:
        write_i32_le(out, -1)
    else:
        write_i32_le(out, len(value))
        out.write(value)
    out.append(1)
    out.append(u8(len(name)))
    out.write(name)
    write_i32_le(out, len(content))
    out.write(content)


def skip_headers(data: bytes, at: i64) -> i64:
    """The place after the headers whose count stands at `at`."""
    count: i64 = data[at]
    at += 1
    while count > 0:
        name_length: i64 = data[at]
        at += 1 + name_length
        at += 4 + i64(read_i32_le(data, at))
        count -= 1
    return at


def count_frames(data: bytes) -> int:
    """How many records `data` holds.

    Raises:
        ValueError: a length points outside `data`.
    """
    at: i64 = 0
    end: i64 = len(data)
    n: i64 = 0
    while at < end:
        at = next_frame(data, at, end)
        n += 1
    return n


def next_frame(data: bytes, at: i64, end: i64) -> i64:
    """The place after the record that starts at `at`.

    Raises:
        ValueError: a length points outside `data`.
    """
    if at + 9 > end:
        raise ValueError("torn record frame")
    length: i64 = i64(read_i32_le(data, at))
    at += 4
    if length >= 0:
        at += length
    elif length != -1:
        raise ValueError("negative key length in a record frame")
    if at + 5 > end:
        raise ValueError("torn record frame")
    length = i64(read_i32_le(data, at))
    at += 4
    if length >= 0:
        at += length
    elif length != -1:
        raise ValueError("negative value length in a record frame")
    if at + 1 > end:
        raise ValueError("torn record frame")
    if data[at] == 0:
        return at + 1
    at = skip_headers(data, at)
    if at > end:
        raise ValueError("torn record frame")
    return at


def frames(data: bytes) -> list[tuple[bytes | None, bytes | None]]:
    """The (key, value) pairs of a batch; for slow paths and tests."""
    out: list[tuple[bytes | None, bytes | None]] = []
    at: i64 = 0
    end: i64 = len(data)
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
        out.append((key, value))
        at = stop
    return out


def murmur2(data: bytes, start: i64) -> i64:
    """Kafka's default hash of a key, over data[start:], made non-negative as the Java client does
    (org.apache.kafka.common.utils.Utils.murmur2 and toPositive)."""
    length: i64 = len(data) - start
    m: i64 = 0x5BD1E995
    mask: i64 = 0xFFFFFFFF
    h: i64 = (0x9747B28C ^ length) & mask
    at: i64 = start
    blocks: i64 = length // 4
    while blocks > 0:
        k: i64 = i64(read_i32_le(data, at)) & mask
        k = (k * m) & mask
        k ^= k >> 24
        k = (k * m) & mask
        h = (h * m) & mask
        h ^= k
        at += 4
        blocks -= 1
    left: i64 = length % 4
    if left >= 3:
        c2: i64 = data[at + 2]
        h ^= c2 << 16
    if left >= 2:
        c1: i64 = data[at + 1]
        h ^= c1 << 8
    if left >= 1:
        c0: i64 = data[at]
        h ^= c0
        h = (h * m) & mask
    h ^= h >> 13
    h = (h * m) & mask
    h ^= h >> 15
    return h & 0x7FFFFFFF


def is_compiled() -> bool:
    """True when this module runs as machine code."""
    return not __file__.endswith(".py")
