"""Text of Postgres values to Avro, for what the compiled codec does not do itself.

A converter takes the text of one value and gives its Avro bytes and, where those bytes do not say everything, the exact
text that goes into the event's `exact_values`. Without Avro bytes the value has no Avro form at all.
Text forms: PostgreSQL manual, chapter 8; datestyle ISO, intervalstyle postgres, timezone UTC, bytea hex, lc_monetary C.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from librt.strings import BytesWriter, write_f64_le

from tailrace_capture.postgres import pgoutput
from tailrace_capture.postgres.pgoutput import Converter
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_schemas import avro, wire
from tailrace_schemas.types import LogicalType

# What pgjdbc, and so Debezium, gives for infinite timestamps (org.postgresql.PGStatement), in milliseconds.
INFINITY_MILLIS = 9223372036825200000
MINUS_INFINITY_MILLIS = -9223372036832400000
# What the server itself stores for infinite dates (src/include/utils/date.h).
INFINITY_DATE, MINUS_INFINITY_DATE = 2**31 - 1, -(2**31)

_DATE = r"(\d{4,})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?"
_TIMESTAMP = re.compile(rf"{_DATE} {_TIME}(?:\+00)?( BC)?")
_ONLY_DATE = re.compile(rf"{_DATE}( BC)?")
_TIME_TZ = re.compile(rf"{_TIME}([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?")


def _long(value: int) -> bytes:
    return wire.long_bytes(value)


def _text(text: str) -> bytes:
    return wire.text_bytes(text)


def _year(digits: str, bc: str | None) -> int:
    """Astronomical year: 1 BC is 0."""
    return 1 - int(digits) if bc else int(digits)


def _micros(hour: str, minute: str, second: str, fraction: str | None) -> int:
    whole = (int(hour) * 3600 + int(minute) * 60 + int(second)) * 1_000_000
    return whole + int((fraction or "0").ljust(6, "0"))


def timestamp(millis: bool) -> Converter:
    def convert(text: bytes) -> tuple[bytes | None, str | None]:
        shown = text.decode()
        if shown in ("infinity", "-infinity"):
            return _long(INFINITY_MILLIS if shown == "infinity" else MINUS_INFINITY_MILLIS), shown
        found = _TIMESTAMP.fullmatch(shown)
        if found is None:
            raise ValueError("not a timestamp")
        year, month, day, hour, minute, second, fraction, bc = found.groups()
        day_number = pgoutput.days(_year(year, bc), int(month), int(day))
        value = day_number * 86_400_000_000 + _micros(hour, minute, second, fraction)
        value = value // 1000 if millis else value
        return (_long(value), None) if value < 2**63 else (None, shown)  # the server's range ends in the year 294276

    return convert


def timestamp_tz(precision: int) -> Converter:
    """ISO text in UTC; the proleptic year 0 is 1 BC, years beyond 9999 carry a sign, as java.time writes them."""

    def convert(text: bytes) -> tuple[bytes | None, str | None]:
        shown = text.decode()
        if shown in ("infinity", "-infinity"):
            return _text(shown), None
        found = _TIMESTAMP.fullmatch(shown)
        if found is None:
            raise ValueError("not a timestamp with time zone")
        year, month, day, hour, minute, second, fraction, bc = found.groups()
        number = _year(year, bc)
        year_text = f"-{-number:04d}" if number < 0 else f"+{number}" if number > 9999 else f"{number:04d}"
        point = f".{(fraction or '').ljust(precision, '0')}" if precision else ""
        return _text(f"{year_text}-{month}-{day}T{hour}:{minute}:{second}{point}Z"), None

    return convert


def date(text: bytes) -> tuple[bytes | None, str | None]:
    shown = text.decode()
    if shown in ("infinity", "-infinity"):
        return _long(INFINITY_DATE if shown == "infinity" else MINUS_INFINITY_DATE), shown
    found = _ONLY_DATE.fullmatch(shown)
    if found is None:
        raise ValueError("not a date")
    year, month, day, bc = found.groups()
    return _long(pgoutput.days(_year(year, bc), int(month), int(day))), None


def time_tz(text: bytes) -> tuple[bytes | None, str | None]:
    """Debezium's ZonedTime is in UTC and so loses the offset; the exact text keeps it."""
    shown = text.decode()
    found = _TIME_TZ.fullmatch(shown)
    if found is None:
        raise ValueError("not a time with time zone")
    hour, minute, second, fraction, sign, zone_hour, zone_minute, zone_second = found.groups()
    offset = int(zone_hour) * 3600 + int(zone_minute or 0) * 60 + int(zone_second or 0)
    total = _micros(hour, minute, second, fraction) - (offset if sign == "+" else -offset) * 1_000_000
    total %= 86_400_000_000
    whole, part = divmod(total, 1_000_000)
    fraction_text = f".{part:06d}".rstrip("0") if part else ""
    return _text(f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{fraction_text}Z"), shown


_UNITS = {"year": 12, "mon": 1}
_INTERVAL_PART = re.compile(r"([+-]?\d+) (year|mon|day)s?")
_INTERVAL_TIME = re.compile(r"([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
MICROS_PER_MONTH = 2629800000000  # 365.25 days / 12, as Debezium's MicroDuration has it


def interval(text: bytes) -> tuple[bytes | None, str | None]:
    """Debezium's MicroDuration; months and days do not survive it, so the exact text goes along."""
    shown = text.decode()
    if shown in ("infinity", "-infinity"):
        return _long(2**63 - 1 if shown == "infinity" else -(2**63)), shown
    total = 0
    for number, unit in _INTERVAL_PART.findall(shown):
        total += int(number) * (86_400_000_000 if unit == "day" else MICROS_PER_MONTH * _UNITS[unit])
    found = _INTERVAL_TIME.search(shown)
    if found is not None:
        sign, hour, minute, second, fraction = found.groups()
        part = _micros(hour, minute, second, fraction)
        total += -part if sign == "-" else part
    return (_long(total) if -(2**63) <= total < 2**63 else None), shown


def decimal(text: bytes) -> tuple[bytes | None, str | None]:
    """numeric(p,s) beyond 18 characters, or NaN."""
    if text[-1:].isalpha():
        return None, text.decode()
    w = BytesWriter()
    wire.put_unscaled_big(w, int(text.replace(b".", b"")))
    return w.getvalue(), None


def number(text: bytes) -> tuple[bytes | None, str | None]:
    """numeric without declared scale, of any length, or NaN or infinite."""
    if text[-1:].isalpha():
        return None, text.decode()
    digits, _, fraction = text.partition(b".")
    w = BytesWriter()
    wire.put_long(w, len(fraction))
    wire.put_unscaled_big(w, _big(digits + fraction))
    return w.getvalue(), None


def _big(digits: bytes) -> int:
    """int() of any length: Python refuses more than 4300 digits at once (sys.set_int_max_str_digits)."""
    if len(digits) <= 4000:
        return int(digits)
    if digits[:1] == b"-":
        return -_big(digits[1:])
    half = len(digits) // 2
    shift: int = 10 ** (len(digits) - half)
    return _big(digits[:half]) * shift + _big(digits[half:])


def money(text: bytes) -> tuple[bytes | None, str | None]:
    """`-$1,234.56` with lc_monetary C."""
    sign = b"-" if text.startswith((b"-", b"(")) else b""
    w = BytesWriter()
    wire.put_unscaled_big(w, int(sign + bytes(c for c in text if 48 <= c <= 57)))
    return w.getvalue(), None


def bits(text: bytes) -> tuple[bytes | None, str | None]:
    """bit(n), bit varying: Debezium's Bits, little-endian. The length is exact only for bit(n); the text always."""
    shown = text.decode()
    size = (len(shown) + 7) // 8
    w = BytesWriter()
    wire.put_bytes(w, int(shown or "0", 2).to_bytes(size, "little"))
    return w.getvalue(), shown


def text_form(text: bytes) -> tuple[bytes | None, str | None]:
    w = BytesWriter()
    wire.put_bytes(w, text)
    return w.getvalue(), None


class _UnevenArrayError(ValueError):
    """More than one dimension, or a lower bound other than 1."""


def array_items(text: str) -> Iterator[str | None]:
    """Elements of a one-dimensional array literal.

    Raises:
        ValueError: of more dimensions or with explicit bounds, or torn.
    """
    if not (text.startswith("{") and text.endswith("}")):
        raise _UnevenArrayError(text[:1])
    at, end = 1, len(text) - 1
    while at < end:
        if text[at] == '"':
            item, at = _quoted(text, at + 1)
            yield item
        elif text[at] == "{":
            raise _UnevenArrayError("{")
        else:
            stop = text.find(",", at, end)
            stop = end if stop < 0 else stop
            item = text[at:stop]
            at = stop
            yield None if item == "NULL" else item
        if at < end and text[at] != ",":
            raise ValueError("torn array")
        at += 1


def _quoted(text: str, at: int) -> tuple[str, int]:
    out = []
    while text[at] != '"':
        if text[at] == "\\":
            at += 1
        out.append(text[at])
        at += 1
    return "".join(out), at + 1


def array(item: Converter) -> Converter:
    """One dimension, elements optional, as Debezium has it; anything else only as exact text. An element that Avro
    cannot carry exactly makes the whole array exact text."""

    def convert(text: bytes) -> tuple[bytes | None, str | None]:
        shown = text.decode()
        try:
            items = list(array_items(shown))
        except _UnevenArrayError:
            return None, shown
        w, exact = BytesWriter(), None
        if items:
            wire.put_long(w, len(items))
        for element in items:
            if element is None:
                w.append(0)
                continue
            avro_bytes, note = item(element.encode())
            if avro_bytes is None:
                return None, shown
            exact = shown if note is not None else exact
            w.append(2)
            w.write(avro_bytes)
        w.append(0)
        return w.getvalue(), exact

    return convert


def vector(text: bytes) -> tuple[bytes | None, str | None]:
    """pgvector `[1,2,3]` as an array of doubles; halfvec likewise."""
    w = BytesWriter()
    items = text.decode()[1:-1].split(",")
    wire.put_long(w, len(items))
    for element in items:
        w.write(_double(element.encode()))
    w.append(0)
    return w.getvalue(), None


def _double(text: bytes) -> bytes:
    w = BytesWriter()
    write_f64_le(w, float(text))
    return w.getvalue()


def fast(op: int, scale: int, fallback: Converter) -> Converter:
    """A converter that does what a fast opcode does; for array elements."""
    codec = pgoutput.Codec(lambda _plan, _key: True)
    buffer = TopicBuffer("none", 1, True, Clock())
    plan = pgoutput.Plan(["x"], bytes([op]), bytes([scale]), b"\0", [fallback], [b""], [None], [], 0, 0, b"", buffer)

    def convert(text: bytes) -> tuple[bytes | None, str | None]:
        if op in (pgoutput.O_DECIMAL, pgoutput.O_NUMBER) and text[-1:].isalpha():
            return None, text.decode()
        return codec.value_of(plan, text)

    return convert


_FAST: dict[str, int] = {
    "boolean": pgoutput.O_BOOLEAN,
    **dict.fromkeys(("int16", "int32", "int64"), pgoutput.O_LONG),
    "float32": pgoutput.O_FLOAT,
    "float64": pgoutput.O_DOUBLE,
    "decimal": pgoutput.O_DECIMAL,
    "number": pgoutput.O_NUMBER,
    **dict.fromkeys(("string", "text", "json", "xml", "uuid", "enum"), pgoutput.O_STRING),
    "bytes": pgoutput.O_BYTES,
    "date": pgoutput.O_DATE,
    "time": pgoutput.O_TIME,
    "timestamp": pgoutput.O_TIMESTAMP,
    "timestamp_tz": pgoutput.O_TIMESTAMP_TZ,
}
_SLOW: dict[str, Converter] = {
    "decimal": decimal,
    "number": number,
    "date": date,
    "time_tz": time_tz,
    "interval": interval,
    "bits": bits,
    "vector": vector,
}


def opcode(type_: LogicalType, native: str) -> tuple[int, int, Converter]:
    """(opcode, scale, converter) of a column."""
    if native == "money":
        return pgoutput.O_CONVERT, 0, money
    if native == "bit(1)" and type_.kind == "boolean":
        return pgoutput.O_BIT, 0, text_form
    if type_.kind == "array":
        assert type_.item is not None
        element_native = native.removesuffix("[]")
        op, scale, slow = opcode(type_.item, element_native)
        return pgoutput.O_CONVERT, 0, array(slow if op == pgoutput.O_CONVERT else fast(op, scale, slow))
    timed = type_.kind in ("timestamp", "timestamp_tz", "time")
    scale = (6 if type_.precision is None else type_.precision) if timed else 0
    return _FAST.get(type_.kind, pgoutput.O_CONVERT), scale, _converter(type_, scale)


def _converter(type_: LogicalType, precision: int) -> Converter:
    if type_.kind == "timestamp":
        return timestamp(avro.millis(type_))
    if type_.kind == "timestamp_tz":
        return timestamp_tz(precision)
    return _SLOW.get(type_.kind, text_form)


_ZERO: dict[int, Callable[[], bytes]] = {
    avro.W_BOOLEAN: lambda: b"\0",
    avro.W_LONG: lambda: b"\0",
    avro.W_FLOAT: lambda: bytes(4),
    avro.W_DOUBLE: lambda: bytes(8),
    avro.W_STRING: lambda: b"\0",
    avro.W_BYTES: lambda: b"\0",
    avro.W_DECIMAL: lambda: b"\x02\0",
    avro.W_NUMBER: lambda: b"\0\x02\0",
    avro.W_ARRAY: lambda: b"\0",
    avro.W_GEOMETRY: lambda: b"\0\0",
}


def zero(type_: LogicalType) -> bytes:
    """Avro bytes of the type's zero: where a NOT NULL column has nothing to say (a key-only old row)."""
    return _ZERO[avro.wire_code(type_)]()


def placeholder(type_: LogicalType) -> bytes | None:
    """Debezium's stand-in for a value the source did not send, None where it has none for the type."""
    mark = avro.UNAVAILABLE_TEXT
    code = avro.wire_code(type_)
    if type_.kind == "array" and type_.item is not None and avro.wire_code(type_.item) == avro.W_STRING:
        return b"\x02\x02" + _text(mark) + b"\0"
    if code in (avro.W_STRING, avro.W_BYTES):
        return _text(mark)
    return None
