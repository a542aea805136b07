"""Values of rows to Avro: row images of the binary log, and text of result sets, by one opcode a column.

Compiled with mypyc; the same file runs interpreted. A `Plan` says how one table's rows are laid out; an `ImageReader`
writes their values, without an object per row or value. Malformed bytes end in `TornRowError`.
Format of row images: MySQL source documentation, `Rows_event`; partial JSON: `sql/rpl_record.cc`.
"""

from collections.abc import Callable
from typing import Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_f32_le, write_f64_le
from mypy_extensions import i64, u8

from tailrace_capture.mysql.values import (
    NOT_A_TIME,
    be,
    calendar_clock_text,
    calendar_text,
    days_of,
    decimal_big,
    decimal_small,
    fraction,
    inet4_text,
    inet6_text,
    instant_text,
    le,
    put_bits_reversed,
    put_unsigned64,
    read_u32_be,
    text_clock,
    text_days,
    text_duration,
    time2_micros,
    unscaled_text,
    unsigned64,
    uuid_text,
)
from tailrace_log.frames import TopicBuffer
from tailrace_schemas.wire import put_bytes, put_long, put_unscaled, put_unscaled_big

OP_INT8: Final = 0
OP_UINT8: Final = 1
OP_INT16: Final = 2
OP_UINT16: Final = 3
OP_INT24: Final = 4
OP_UINT24: Final = 5
OP_INT32: Final = 6
OP_UINT32: Final = 7
OP_INT64: Final = 8
OP_UINT64: Final = 9
OP_FLOAT: Final = 10
OP_DOUBLE: Final = 11
OP_DECIMAL: Final = 12
OP_DECIMAL_BIG: Final = 13
OP_TEXT: Final = 14  # UTF-8 at the source
OP_TEXT_DECODED: Final = 15  # another character set
OP_BYTES: Final = 16
OP_BINARY: Final = 17  # BINARY(n): trailing zero bytes are not in the log
OP_BIT: Final = 18
OP_BITS: Final = 19
OP_ENUM: Final = 20
OP_SET: Final = 21
OP_YEAR: Final = 22
OP_DATE: Final = 23
OP_TIME: Final = 24
OP_DATETIME: Final = 25
OP_TIMESTAMP: Final = 26
OP_TIME_OLD: Final = 27
OP_DATETIME_OLD: Final = 28
OP_TIMESTAMP_OLD: Final = 29
OP_JSON: Final = 30
OP_GEOMETRY: Final = 31
OP_VECTOR: Final = 32
OP_VECTOR_PLAIN: Final = 33  # MariaDB: a VARBINARY of floats
OP_UUID: Final = 34
OP_INET4: Final = 35
OP_INET6: Final = 36


class TornRowError(Exception):
    """Bytes that do not form the row that the table map promises."""


class InexactKeyError(Exception):
    """A key value that Avro's type cannot carry; the argument is the column's name."""


class PartialImageError(Exception):
    """A row image without all columns."""


class Plan:
    """How to read one table's rows, column by column in table order, and where their events go.

    `size`: by opcode: bytes of the length before a value, bytes of a padded value, fractional digits, bits.
    `key`: indexes of the key's columns in key order. `labels`: UTF-8. `decoders`: bytes in the column's character set
    to UTF-8 (OP_TEXT_DECODED). `source_db`, `source_table`: Avro strings of the source block.
    """

    def __init__(
        self,
        ops: bytes,
        sizes: list[int],
        precisions: bytes,
        scales: bytes,
        nullable: bytes,
        key: list[int],
        names: list[bytes],
        labels: list[list[bytes]],
        decoders: list[Callable[[bytes], bytes] | None],
        buffer: TopicBuffer,
        value_header: bytes,
        key_header: bytes,
        source_db: bytes,
        source_table: bytes,
    ) -> None:
        self.n: i64 = len(ops)
        self.ops = ops
        self.sizes = sizes
        self.small = bytes([min(size, 255) for size in sizes])
        self.precisions = precisions
        self.scales = scales
        self.nullable = nullable
        self.key = key
        self.keyless = not key
        self.in_order = key == sorted(key)
        self.is_key = bytes([int(i in key) for i in range(len(ops))])
        self.names = names
        self.labels = labels
        self.decoders = decoders
        self.buffer = buffer
        self.value_header = value_header
        self.key_header = key_header
        self.source_db = source_db
        self.source_table = source_table
        self.serial: i64 = -1
        self.source = b""
        self.owner: object = None


class ImageReader:
    """Writes the values of rows. `exact`: what Avro's types could not carry since the list was last emptied, as (place,
    text). `json_text`: binary JSON to UTF-8 text; `patch_json`: (binary JSON before, differences) to text."""

    def __init__(self, json_text: Callable[[bytes], bytes], patch_json: Callable[[bytes, bytes], bytes]) -> None:
        self.json_text = json_text
        self.patch_json = patch_json
        self.exact: list[tuple[bytes, bytes]] = []
        self.image_name = b""
        self.offsets: list[int] = []
        self.json_before: dict[int, bytes] = {}
        self.json_partial: dict[int, bool] = {}
        self.in_partial = False

    def image(self, plan: Plan, m: bytes, o: i64, end: i64, w: BytesWriter, kw: BytesWriter | None, name: bytes) -> i64:
        """One row image at `o`: the null bitmap, then the values that are not null. Returns the place after it."""
        self.image_name = name
        n = plan.n
        bitmap: i64 = o
        o += (n + 7) // 8
        is_key = plan.is_key
        shuffled = kw is not None and not plan.in_order
        if shuffled:
            self.offsets = [0] * int(n)
        i: i64 = 0
        while i < n:
            bits: i64 = m[bitmap + (i >> 3)]
            if (bits >> (i & 7)) & 1:
                self.null(plan, i, w)
                i += 1
                continue
            if kw is not None and is_key[i]:
                if shuffled:
                    self.offsets[i] = int(o)
                else:
                    self._put(plan, m, o, end, i, kw, True)
            o = self._put(plan, m, o, end, i, w, False)
            if o > end:
                raise TornRowError("a row reaches beyond its event")
            i += 1
        if kw is not None and shuffled:
            for column in plan.key:
                self._put(plan, m, self.offsets[column], end, column, kw, True)
        return o

    def null(self, plan: Plan, i: i64, w: BytesWriter) -> None:
        if plan.nullable[i] == 0:
            raise TornRowError("NULL in a column that is NOT NULL")
        w.append(0)

    def partial_image(self, plan: Plan, m: bytes, o: i64, end: i64, w: BytesWriter, kw: BytesWriter | None) -> i64:
        """The image after an update of PARTIAL_UPDATE_ROWS: options, a bit for each JSON column that holds differences
        to its value before (kept in `json_before`), then an image as any other."""
        options: i64 = m[o]
        o += 1
        if options > 1:
            raise TornRowError("unknown row value options")
        partial: dict[int, bool] = {}
        if options & 1:
            columns = [int(c) for c in range(int(plan.n)) if plan.ops[c] == OP_JSON]
            k: i64 = 0
            for column in columns:
                bits: i64 = m[o + (k >> 3)]
                partial[column] = (bits >> (k & 7)) & 1 == 1
                k += 1
            o += (k + 7) // 8
        self.json_partial = partial
        self.in_partial = True
        try:
            o = self.image(plan, m, o, end, w, kw, b"after.")
        finally:
            self.in_partial = False
        return o

    def _inexact(self, plan: Plan, i: i64, w: BytesWriter, key: bool, text: bytes) -> bool:
        """A value that Avro's type cannot carry: its text goes beside. True when a null has been written for it; else
        the caller writes its zero."""
        name = plan.names[i]
        if key:
            raise InexactKeyError(name.decode())
        self.exact.append((self.image_name + name, text))
        if plan.nullable[i]:
            w.append(0)
            return True
        return False

    def _put(self, plan: Plan, m: bytes, o: i64, end: i64, i: i64, w: BytesWriter, key: bool) -> i64:
        """One value that is not NULL, from its form in a row image; returns the place after it."""
        op: i64 = plan.ops[i]
        size: i64 = plan.small[i]
        if op >= OP_YEAR and op <= OP_TIMESTAMP_OLD:
            return self._put_time(plan, m, o, i, w, key, op, size)
        if plan.nullable[i] and not key:
            w.append(2)
        v: i64 = 0
        length: i64 = 0
        if op == OP_INT64:
            put_long(w, read_i64_le(m, o))
            return o + 8
        if op == OP_INT32:
            put_long(w, i64(read_i32_le(m, o)))
            return o + 4
        if op in (OP_TEXT, OP_BYTES):
            length = le(m, o, size)
            o += size
            if o + length > end:
                raise TornRowError("a text reaches beyond its event")
            put_long(w, length)
            w.write(m[o : o + length])
            return o + length
        if op == OP_DECIMAL:
            put_unscaled(w, decimal_small(m, o, plan.precisions[i], plan.scales[i]))
            return o + size
        if op == OP_DOUBLE:
            if o + 8 > end:
                raise TornRowError("a row ends inside a value")
            w.write(m[o : o + 8])
            return o + 8
        if op == OP_FLOAT:
            if o + 4 > end:
                raise TornRowError("a row ends inside a value")
            w.write(m[o : o + 4])
            return o + 4
        if op in (OP_INT8, OP_INT16, OP_INT24):
            size = 1 if op == OP_INT8 else 2 if op == OP_INT16 else 3
            v = le(m, o, size)
            sign: i64 = 0x80 if op == OP_INT8 else 0x8000 if op == OP_INT16 else 0x800000
            put_long(w, (v ^ sign) - sign)
            return o + size
        if op in (OP_UINT8, OP_UINT16, OP_UINT24, OP_UINT32):
            size = 1 if op == OP_UINT8 else 2 if op == OP_UINT16 else 3 if op == OP_UINT24 else 4
            put_long(w, le(m, o, size))
            return o + size
        if op == OP_UINT64:
            v = read_i64_le(m, o)
            if v >= 0:
                put_unscaled(w, v)
            else:
                put_unsigned64(w, v, unsigned64(m, o))
            return o + 8
        if op in (OP_ENUM, OP_SET):
            return self._put_labels(plan, m, o, i, w, op, size)
        if op == OP_BIT:
            v = m[o]
            w.append(u8(v & 1))
            return o + 1
        if op == OP_BITS:
            length = (size + 7) // 8
            put_bits_reversed(w, m, o, length)
            return o + length
        return self._put_rare(plan, m, o, end, i, w, op)

    def _put_time(self, plan: Plan, m: bytes, o: i64, i: i64, w: BytesWriter, key: bool, op: i64, digits: i64) -> i64:
        branch = plan.nullable[i] != 0 and not key
        v: i64 = 0
        if op == OP_DATETIME:
            packed: i64 = be(m, o, 5) - 0x8000000000
            micros: i64 = fraction(m, o + 5, digits)
            ym: i64 = packed >> 22
            clock: i64 = ((packed >> 12) & 31) * 3600 + ((packed >> 6) & 63) * 60 + (packed & 63)
            self._put_datetime(plan, i, w, key, ym // 13, ym % 13, (packed >> 17) & 31, clock, micros, digits)
            return o + 5 + (digits + 1) // 2
        if op in (OP_TIMESTAMP, OP_TIMESTAMP_OLD):
            if op == OP_TIMESTAMP:
                self._put_instant(plan, i, w, key, read_u32_be(m, o), fraction(m, o + 4, digits), digits)
                return o + 4 + (digits + 1) // 2
            self._put_instant(plan, i, w, key, le(m, o, 4), 0, 0)
            return o + 4
        if op == OP_DATE:
            v = le(m, o, 3)
            days: i64 = days_of(v >> 9, (v >> 5) & 15, v & 31)
            if days == NOT_A_TIME:
                if self._inexact(plan, i, w, key, calendar_text(v >> 9, (v >> 5) & 15, v & 31)):
                    return o + 3
                days = 0
            if branch:
                w.append(2)
            put_long(w, days)
            return o + 3
        if op == OP_DATETIME_OLD:
            v = read_i64_le(m, o)
            if v < 0 or v > 99999999999999:
                raise TornRowError("not a DATETIME")
            hms: i64 = v % 1000000
            clock = hms // 10000 * 3600 + hms // 100 % 100 * 60 + hms % 100
            ymd: i64 = v // 1000000
            self._put_datetime(plan, i, w, key, ymd // 10000, ymd // 100 % 100, ymd % 100, clock, 0, 0)
            return o + 8
        if branch:
            w.append(2)
        if op == OP_TIME:
            put_long(w, time2_micros(m, o, digits))
            return o + 3 + (digits + 1) // 2
        if op == OP_TIME_OLD:
            v = le(m, o, 3)
            v = (v ^ 0x800000) - 0x800000
            hms = -v if v < 0 else v
            hms = (hms // 10000 * 3600 + hms // 100 % 100 * 60 + hms % 100) * 1000000
            put_long(w, -hms if v < 0 else hms)
            return o + 3
        v = m[o]
        put_long(w, 1900 + v if v else 0)
        return o + 1

    def _put_datetime(
        self, plan: Plan, i: i64, w: BytesWriter, key: bool, y: i64, mo: i64, d: i64, clock: i64, us: i64, digits: i64
    ) -> None:
        days: i64 = days_of(y, mo, d)
        v: i64 = (days * 86400 + clock) * 1000000 + us
        if days == NOT_A_TIME:
            if self._inexact(plan, i, w, key, calendar_clock_text(y, mo, d, clock, us, digits)):
                return
            v = 0
        if plan.nullable[i] and not key:
            w.append(2)
        put_long(w, v // 1000 if digits <= 3 else v)

    def _put_instant(self, plan: Plan, i: i64, w: BytesWriter, key: bool, seconds: i64, us: i64, digits: i64) -> None:
        # Second 0 is how the server keeps the zero timestamp; the earliest real one is second 1.
        if seconds == 0 and self._inexact(plan, i, w, key, calendar_clock_text(0, 0, 0, 0, us, digits)):
            return
        if plan.nullable[i] and not key:
            w.append(2)
        put_bytes(w, instant_text(seconds, us, digits))

    def _put_labels(self, plan: Plan, m: bytes, o: i64, i: i64, w: BytesWriter, op: i64, size: i64) -> i64:
        labels = plan.labels[i]
        v: i64 = le(m, o, size)
        if op == OP_ENUM:
            if v > len(labels):
                raise TornRowError("an ENUM value without a label")
            put_bytes(w, b"" if v == 0 else labels[v - 1])
            return o + size
        out = BytesWriter()
        bit: i64 = 0
        while v != 0 and bit < 64:
            if v & 1:
                if bit >= len(labels):
                    raise TornRowError("a SET value without a label")
                if len(out):
                    out.append(44)
                out.write(labels[bit])
            v = (v >> 1) & 0x7FFFFFFFFFFFFFFF
            bit += 1
        put_bytes(w, out.getvalue())
        return o + size

    def _put_rare(self, plan: Plan, m: bytes, o: i64, end: i64, i: i64, w: BytesWriter, op: i64) -> i64:
        """Values that need their bytes taken out."""
        size: i64 = plan.small[i]
        length: i64 = size
        if op == OP_DECIMAL_BIG:
            raw = m[o : o + size]
            if o + size > end:
                raise TornRowError("a row ends inside a value")
            put_unscaled_big(w, decimal_big(raw, plan.precisions[i], plan.scales[i]))
            return o + size
        if op in (OP_BINARY, OP_UUID, OP_INET4, OP_INET6):
            size = 1 if plan.sizes[i] < 256 else 2
        length = le(m, o, size)
        o += size
        if o + length > end or length < 0:
            raise TornRowError("a value reaches beyond its event")
        raw = m[o : o + length]
        if op == OP_TEXT_DECODED:
            decode = plan.decoders[i]
            if decode is None:
                raise TornRowError("no character set")
            put_bytes(w, decode(raw))
        elif op == OP_BINARY:
            put_bytes(w, _padded(raw, plan.sizes[i]))
        elif op == OP_UUID:
            put_bytes(w, uuid_text(_padded(raw, 16)))
        elif op == OP_INET4:
            put_bytes(w, inet4_text(_padded(raw, 4)))
        elif op == OP_INET6:
            put_bytes(w, inet6_text(_padded(raw, 16)))
        elif op == OP_JSON:
            self._put_json(raw, i, w)
        elif op == OP_GEOMETRY:
            put_geometry(w, raw)
        elif op in (OP_VECTOR, OP_VECTOR_PLAIN):
            put_vector(w, raw)
        else:
            raise TornRowError("unknown opcode")
        return o + length

    def _put_json(self, raw: bytes, i: i64, w: BytesWriter) -> None:
        column = int(i)
        if self.image_name == b"before.":
            self.json_before[column] = raw
        elif self.in_partial and self.json_partial.get(column, False):
            put_bytes(w, self.patch_json(self.json_before[column], raw))
            return
        put_bytes(w, self.json_text(raw))

    # --- text of result sets

    def put_text(self, plan: Plan, m: bytes, o: i64, end: i64, i: i64, w: BytesWriter, key: bool) -> None:
        """One value that is not NULL, from its form in a text result set."""
        op: i64 = plan.ops[i]
        if op >= OP_DATE and op <= OP_TIMESTAMP_OLD:
            self._put_text_time(plan, m, o, end, i, w, key, op)
            return
        if plan.nullable[i] and not key:
            w.append(2)
        if op <= OP_INT64 or op == OP_YEAR:
            put_long(w, unscaled_text(m, o, end))
        elif op == OP_DECIMAL:
            put_unscaled(w, unscaled_text(m, o, end))
        elif op in (OP_UINT64, OP_DECIMAL_BIG):
            put_unscaled_big(w, int(m[o:end].replace(b".", b"")))
        elif op == OP_DOUBLE:
            write_f64_le(w, float(m[o:end]))
        elif op == OP_FLOAT:
            write_f32_le(w, float(m[o:end]))
        elif op == OP_BIT:
            bit: i64 = m[end - 1]
            w.append(u8(bit & 1))
        elif op == OP_BITS:
            put_bits_reversed(w, m, o, end - o)
        elif op == OP_GEOMETRY:
            put_geometry(w, m[o:end])
        elif op in (OP_VECTOR, OP_VECTOR_PLAIN):
            put_vector(w, m[o:end])
        elif op == OP_BINARY:
            put_bytes(w, _padded(m[o:end], plan.sizes[i]))
        else:
            put_bytes(w, m[o:end])

    def _put_text_time(
        self, plan: Plan, m: bytes, o: i64, end: i64, i: i64, w: BytesWriter, key: bool, op: i64
    ) -> None:
        branch = plan.nullable[i] != 0 and not key
        if op in (OP_TIME, OP_TIME_OLD):
            if branch:
                w.append(2)
            put_long(w, text_duration(m, o, end))
            return
        days: i64 = text_days(m, o, end)
        if days == NOT_A_TIME:
            if self._inexact(plan, i, w, key, m[o:end]):
                return
            days = 0
            if branch:
                w.append(2)
            if op in (OP_TIMESTAMP, OP_TIMESTAMP_OLD):
                put_bytes(w, instant_text(0, 0, plan.small[i]))
            else:
                put_long(w, 0)
            return
        if branch:
            w.append(2)
        if op == OP_DATE:
            put_long(w, days)
        elif op in (OP_DATETIME, OP_DATETIME_OLD):
            v: i64 = days * 86400000000 + text_clock(m, o + 11, end)
            put_long(w, v // 1000 if plan.small[i] <= 3 else v)
        else:
            put_long(w, end - o + 1)
            w.write(m[o : o + 10])
            w.append(84)
            w.write(m[o + 11 : end])
            w.append(90)


def _padded(raw: bytes, size: int) -> bytes:
    return raw if len(raw) == size else raw + bytes(size - len(raw))


def put_geometry(w: BytesWriter, raw: bytes) -> None:
    """The server's own form, SRID and WKB, as record {wkb, srid}."""
    if len(raw) < 4:
        raise TornRowError("a geometry without its SRID")
    put_bytes(w, raw[4:])
    w.append(2)
    put_long(w, i64(read_i32_le(raw, 0)))


def put_vector(w: BytesWriter, raw: bytes) -> None:
    """An Avro array of floats from as many little-endian floats."""
    count: i64 = len(raw) // 4
    if count * 4 != len(raw):
        raise TornRowError("a vector that is not made of floats")
    if count:
        put_long(w, count)
        w.write(raw)
    w.append(0)
