"""Change events in, rows for a target out: Avro frames to COPY lines, TSV lines, SQL literals or texts, one per key.

Compiled with mypyc; the same file runs interpreted. Bytes to bytes: on the default path a row costs one key object and
no value object. A per-table `Plan` of opcodes says how each column stands in Avro and how the target wants it written.
Hostile or torn bytes raise one of FAULTS, which callers turn into DecodeError.
Formats: Apache Avro 1.11, "Binary Encoding"; PostgreSQL manual, COPY "Text Format"; MySQL manual, LOAD DATA.
"""

from typing import Final, final

from librt.strings import BytesWriter, read_f32_le, read_f64_le, read_i32_le
from mypy_extensions import i64, u8

from tailrace_schemas.wire import skip_headers

# How a value stands in Avro: the W_ codes of tailrace_schemas.avro.
W_BOOLEAN: Final = 0
W_LONG: Final = 1
W_FLOAT: Final = 2
W_DOUBLE: Final = 3
W_STRING: Final = 4
W_BYTES: Final = 5
W_DECIMAL: Final = 6
W_NUMBER: Final = 7
W_ARRAY: Final = 8
W_GEOMETRY: Final = 9

# How the target wants it written.
R_INT: Final = 0
R_BOOL: Final = 1  # 1 or 0
R_FLOAT: Final = 2
R_DOUBLE: Final = 3
R_TEXT: Final = 4
R_HEX: Final = 5  # hex digits of bytes
R_HEX_PG: Final = 6  # with \x before them
R_DECIMAL: Final = 7  # parameter: scale
R_NUMBER: Final = 8
R_DATE: Final = 9
R_TIME_MS: Final = 10
R_TIME_US: Final = 11
R_STAMP_MS: Final = 12
R_STAMP_US: Final = 13
R_DURATION: Final = 14
R_BITS: Final = 15  # parameter: length
R_ARRAY_PG: Final = 16
R_ARRAY_JSON: Final = 17
R_VECTOR: Final = 18
R_EWKB: Final = 19  # Postgres: EWKB as \x and hex digits
R_GEO_MY: Final = 20  # MySQL's own form: SRID little-endian, then WKB, as hex digits
R_INSTANT: Final = 21  # ISO 8601 with Z as `date time`, for targets that know no zone
R_BITS_TEXT: Final = 22  # binary digits as text, where the target has no bit type so long
R_VECTOR_HEX: Final = 23  # MySQL vector: its floats little-endian, as hex digits
R_INSTANT_PG: Final = 24  # ISO 8601, years beyond four digits and before year 1 as Postgres reads them

# How text is made safe.
Q_RAW: Final = 0
Q_COPY: Final = 1  # Postgres COPY text
Q_TSV: Final = 2  # MySQL LOAD DATA, default escapes
Q_SQL: Final = 3  # MySQL literal

OP_CREATE: Final = 99  # c
OP_DELETE: Final = 100  # d
OP_READ: Final = 114  # r
OP_UPDATE: Final = 117  # u

HEX: Final = b"0123456789abcdef"
# What hostile or torn bytes raise.
FAULTS: Final = (ValueError, IndexError, KeyError, OverflowError)
MICROS_PER_DAY: Final = 86_400_000_000


class Missing:
    """The mark of a value the source did not send."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
NEW_KEY: Final = b"__debezium.newkey"  # header of a delete that is one half of a key change


@final
class Plan:
    """How to read and write the rows of one table under one schema id. All sequences are by column, in table order.

    `wires`, `ops`, `params`: W_ code, R_ code and its parameter; `item_*` the same for items of arrays.
    `key`: column numbers in key order, empty for a keyless table. `source` and its letters: see `Reader.skip_letters`.
    `numbers`: column name → number. `null_zero_dates`: dates without a day or month become NULL.
    """

    def __init__(
        self,
        wires: bytes,
        ops: bytes,
        nullable: bytes,
        params: list[int],
        item_wires: bytes,
        item_ops: bytes,
        item_params: list[int],
        key: list[int],
        source: bytes,
        numbers: dict[str, int],
        quoting: int,
        null_zero_dates: bool = False,
    ) -> None:
        self.count: i64 = len(wires)
        self.wires = wires
        self.ops = ops
        self.nullable = nullable
        self.params = params
        self.item_wires = item_wires
        self.item_ops = item_ops
        self.item_params = item_params
        self.key = key
        self.source = source
        self.numbers = numbers
        self.quoting: i64 = quoting
        self.null_zero_dates = null_zero_dates


@final
class Change:
    """One event for a slow path. Rows are lists of text, None or MISSING by column, `key` the texts in key order.

    `moved`: a delete whose row comes again under another key, in the event that follows.
    `order`: place in the source's order among all events of one log transaction (ascending; ties stay in frame order).
    """

    def __init__(self) -> None:
        self.op = 0
        self.key: list[object] = []
        self.before: list[object] | None = None
        self.after: list[object] | None = None
        self.order: tuple[int, int, int] = (0, 0, 0)
        self.moved = False


@final
class Reader:
    """A place in the bytes of one piece, and what `walk` found about the event there (-1 = null)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at: i64 = 0
        self.end: i64 = len(data)
        self.before_at: i64 = -1
        self.after_at: i64 = -1
        self.source_at: i64 = -1
        self.transaction_at: i64 = -1
        self.op: i64 = 0
        self.unavailable_at: i64 = -1
        self.exact_at: i64 = -1

    def long(self) -> i64:
        data = self.data
        at: i64 = self.at
        c: i64 = data[at]
        at += 1
        v: i64 = c & 0x7F
        shift: i64 = 7
        while c & 0x80:
            if shift > 63:
                raise ValueError("an Avro long of more than ten bytes")
            c = data[at]
            at += 1
            v |= (c & 0x7F) << shift
            shift += 7
        self.at = at
        return ((v >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(v & 1)

    def length(self) -> i64:
        """The length of bytes or a string that lie inside the event."""
        n: i64 = self.long()
        if n < 0 or n > self.end - self.at:
            raise ValueError("an Avro length points outside its event")
        return n

    def branch(self) -> i64:
        """0 or 1: which of the two branches of a union follows."""
        n: i64 = self.long()
        if n != 0 and n != 1:
            raise ValueError("an Avro union branch that does not exist")
        return n

    def text(self) -> str:
        n: i64 = self.length()
        start: i64 = self.at
        self.at = start + n
        return self.data[start : start + n].decode()

    def skip_bytes(self) -> None:
        n: i64 = self.length()
        self.at += n

    def skip_long(self) -> None:
        data = self.data
        at: i64 = self.at
        while data[at] & 0x80:
            at += 1
        self.at = at + 1

    def skip_letters(self, letters: bytes) -> None:
        """Skip fields: s string, l long, S and L the same where null comes first, E a string where null comes last."""
        i: i64 = 0
        n: i64 = len(letters)
        while i < n:
            letter: i64 = letters[i]
            if letter == 115:
                self.skip_bytes()
            elif letter == 108:
                self.skip_long()
            elif letter == 83:
                if self.branch():
                    self.skip_bytes()
            elif letter == 76:
                if self.branch():
                    self.skip_long()
            elif self.branch() == 0:
                self.skip_bytes()
            i += 1

    def skip_value(self, plan: Plan, i: i64, wire: i64) -> None:
        if wire == W_LONG:
            self.skip_long()
        elif wire in (W_STRING, W_BYTES, W_DECIMAL):
            self.skip_bytes()
        elif wire == W_BOOLEAN:
            self.at += 1
        elif wire == W_DOUBLE:
            self.at += 8
        elif wire == W_FLOAT:
            self.at += 4
        elif wire == W_NUMBER:
            self.skip_long()
            self.skip_bytes()
        elif wire == W_GEOMETRY:
            self.skip_bytes()
            if self.branch():
                self.skip_long()
        elif wire == W_ARRAY:
            self.skip_array(plan, i)
        else:
            raise ValueError("an unknown wire code")

    def skip_array(self, plan: Plan, i: i64) -> None:
        item: i64 = plan.item_wires[i]
        nullable = plan.ops[i] not in (R_VECTOR, R_VECTOR_HEX)
        n: i64 = self.block()
        while n:
            while n:
                if not nullable or self.branch():
                    self.skip_value(plan, i, item)
                if self.at > self.end:
                    raise ValueError("an Avro array points outside its event")
                n -= 1
            n = self.block()

    def block(self) -> i64:
        """The number of items of the next block; 0 ends an array or map."""
        n: i64 = self.long()
        if n < 0:
            n = -n
            self.skip_long()
        if n < 0 or n > self.end - self.at:
            raise ValueError("an Avro block points outside its event")
        return n

    def skip_row(self, plan: Plan) -> None:
        wires = plan.wires
        nullable = plan.nullable
        i: i64 = 0
        while i < plan.count:
            if not nullable[i] or self.branch():
                wire: i64 = wires[i]
                if wire == W_LONG:
                    self.skip_long()
                elif wire == W_STRING:
                    self.skip_bytes()
                else:
                    self.skip_value(plan, i, wire)
            i += 1

    def walk(self, plan: Plan, start: i64, end: i64) -> None:
        """Read through the envelope in data[start:end] (behind the Confluent header) and note where its parts are."""
        self.at = start
        self.end = end
        self.before_at = -1
        self.after_at = -1
        self.transaction_at = -1
        self.unavailable_at = -1
        self.exact_at = -1
        if self.branch():
            self.before_at = self.at
            self.skip_row(plan)
        if self.branch():
            self.after_at = self.at
            self.skip_row(plan)
        self.source_at = self.at
        self.skip_letters(plan.source)
        if self.branch():
            self.transaction_at = self.at
            self.skip_bytes()
            self.skip_long()
            self.skip_long()
        if self.length() != 1:
            raise ValueError("an operation of more than one letter")
        self.op = self.data[self.at]
        self.at += 1
        if self.branch():
            self.skip_long()
        if self.branch():
            self.skip_long()
        if self.branch():
            self.skip_long()
        if self.branch():
            self.unavailable_at = self.at
            self.skip_strings(1)
        if self.branch():
            self.exact_at = self.at
            self.skip_strings(2)
        if self.at != end:
            raise ValueError("an event that is longer or shorter than its frame")
        if self.after_at < 0 and self.op != OP_DELETE:
            raise ValueError("an event without an after image")
        if self.op != OP_CREATE and self.op != OP_READ and self.op != OP_UPDATE and self.op != OP_DELETE:
            raise ValueError("an operation that is none of c, r, u, d")

    def skip_strings(self, each: i64) -> None:
        n: i64 = self.block()
        while n:
            k: i64 = n * each
            while k:
                self.skip_bytes()
                k -= 1
            n = self.block()

    def unavailable(self) -> list[str]:
        out: list[str] = []
        if self.unavailable_at >= 0:
            self.at = self.unavailable_at
            n: i64 = self.block()
            while n:
                while n:
                    out.append(self.text())
                    n -= 1
                n = self.block()
        return out

    def exact(self) -> dict[str, str]:
        out: dict[str, str] = {}
        if self.exact_at >= 0:
            self.at = self.exact_at
            n: i64 = self.block()
            while n:
                while n:
                    name = self.text()
                    out[name] = self.text()
                    n -= 1
                n = self.block()
        return out


# ---- numbers and times as text


def put_int(w: BytesWriter, v: i64) -> None:
    if v < 0:
        if v == -9223372036854775808:
            w.write(b"-9223372036854775808")
            return
        w.append(45)
        v = -v
    if v < 10:
        w.append(u8(48 + v))
        return
    d: i64 = 10
    # d never goes beyond 10**18, which fits.
    while d < 1_000_000_000_000_000_000 and v // d >= 10:
        d *= 10
    while d > 0:
        q: i64 = v // d
        w.append(u8(48 + q))
        v -= q * d
        d = d // 10


def put_padded(w: BytesWriter, v: i64, width: i64) -> None:
    """A number of at most `width` digits with leading zeros."""
    d: i64 = 1
    while width > 1:
        d *= 10
        width -= 1
    while d > 0:
        q: i64 = v // d
        w.append(u8(48 + q))
        v -= q * d
        d = d // 10


def put2(w: BytesWriter, v: i64) -> None:
    w.append(u8(48 + v // 10))
    w.append(u8(48 + v % 10))


def put_date(w: BytesWriter, days: i64) -> bool:
    """Days since 1970 in the proleptic Gregorian calendar; True when the year is BC and ` BC` must follow the time.
    Algorithm: days to civil (H. Hinnant, "chrono-compatible low-level date algorithms")."""
    z: i64 = days + 719468
    era: i64 = z // 146097
    doe: i64 = z - era * 146097
    yoe: i64 = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    y: i64 = yoe + era * 400
    doy: i64 = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp: i64 = (5 * doy + 2) // 153
    d: i64 = doy - (153 * mp + 2) // 5 + 1
    m: i64 = mp + 3 if mp < 10 else mp - 9
    if m <= 2:
        y += 1
    bc = y <= 0
    if bc:
        y = 1 - y
    if y < 10000:
        put2(w, y // 100)
        put2(w, y % 100)
    else:
        put_int(w, y)
    w.append(45)
    put2(w, m)
    w.append(45)
    put2(w, d)
    return bc


def put_clock(w: BytesWriter, us: i64) -> None:
    """Hours (two digits or more), minutes, seconds and, unless zero, six fractional digits of a non-negative time."""
    s: i64 = us // 1_000_000
    f: i64 = us - s * 1_000_000
    h: i64 = s // 3600
    if h < 100:
        put2(w, h)
    else:
        put_int(w, h)
    w.append(58)
    put2(w, s // 60 % 60)
    w.append(58)
    put2(w, s % 60)
    if f:
        w.append(46)
        put2(w, f // 10000)
        put2(w, f // 100 % 100)
        put2(w, f % 100)


def put_stamp(w: BytesWriter, us: i64) -> None:
    days: i64 = us // MICROS_PER_DAY
    bc = put_date(w, days)
    w.append(32)
    put_clock(w, us - days * MICROS_PER_DAY)
    if bc:
        w.write(b" BC")


def put_stamp_ms(w: BytesWriter, ms: i64) -> None:
    """As put_stamp; milliseconds reach further than microseconds do."""
    days: i64 = ms // 86_400_000
    bc = put_date(w, days)
    w.append(32)
    put_clock(w, (ms - days * 86_400_000) * 1000)
    if bc:
        w.write(b" BC")


def put_decimal(w: BytesWriter, data: bytes, at: i64, n: i64, scale: i64) -> None:
    """A big-endian unscaled value as a decimal number with `scale` digits behind the point."""
    if n > 8 or scale > 18 or scale < 0:
        w.write(big_decimal(data[at : at + n], int(scale)))
        return
    v: i64 = 0
    if n:
        x: i64 = data[at]
        if x & 0x80:
            v = -1
    end: i64 = at + n
    while at < end:
        x = data[at]
        v = (v << 8) | x
        at += 1
    if v == -9223372036854775808:
        w.write(big_decimal(data[end - n : end], int(scale)))
        return
    if v < 0:
        w.append(45)
        v = -v
    if scale == 0:
        put_int(w, v)
        return
    unit: i64 = 1
    k: i64 = scale
    while k:
        unit *= 10
        k -= 1
    whole: i64 = v // unit
    put_int(w, whole)
    w.append(46)
    put_padded(w, v - whole * unit, scale)


def big_decimal(unscaled: bytes, scale: int) -> bytes:
    value = int.from_bytes(unscaled, "big", signed=True)
    if scale <= 0:
        return str(value * 10**-scale).encode()
    digits = str(abs(value)).rjust(scale + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}".encode()


def float_text(value: float) -> bytes:
    if value != value:
        return b"NaN"
    text = repr(value)
    if text == "inf":
        return b"Infinity"
    if text == "-inf":
        return b"-Infinity"
    return text.encode()


def put_hex(w: BytesWriter, data: bytes, at: i64, end: i64) -> None:
    while at < end:
        c: i64 = data[at]
        w.append(HEX[c >> 4])
        w.append(HEX[c & 15])
        at += 1


def put_bits(w: BytesWriter, data: bytes, at: i64, n: i64, length: i64) -> None:
    """Little-endian bytes as `length` binary digits, the highest first; all their bits where a column has no length."""
    if length > n * 8:
        length = n * 8
    i: i64 = length - 1
    while i >= 0:
        place: i64 = i // 8
        bit: i64 = 0
        if place < n:
            c: i64 = data[at + place]
            bit = (c >> (i % 8)) & 1
        w.append(u8(48 + bit))
        i -= 1


# ---- text made safe


def put_escaped(w: BytesWriter, data: bytes, at: i64, end: i64, quoting: i64) -> None:
    i: i64 = at
    while i < end:
        c: i64 = data[i]
        if c == 92 or c < 32 or c == 39:
            break
        i += 1
    if i == end or quoting == Q_RAW:
        w.write(data[at:end])
        return
    w.write(data[at:i])
    while i < end:
        c = data[i]
        if c == 92:
            w.append(92)
            w.append(92)
        elif c == 10:
            w.append(92)
            w.append(110)
        elif c == 13:
            w.append(92)
            w.append(114)
        elif c == 9:
            w.append(92)
            w.append(116)
        elif c == 0 and quoting != Q_COPY:
            w.append(92)
            w.append(48)
        elif c == 26 and quoting != Q_COPY:
            w.append(92)
            w.append(90)
        elif c == 39 and quoting == Q_SQL:
            w.append(92)
            w.append(39)
        else:
            w.append(u8(c))
        i += 1


def put_null(w: BytesWriter, quoting: i64) -> None:
    if quoting == Q_SQL:
        w.write(b"NULL")
    else:
        w.append(92)
        w.append(78)


# ---- one value


def put_value(w: BytesWriter, r: Reader, plan: Plan, i: i64, op: i64, param: i64, quoting: i64) -> None:
    """Write the value at `r` and move `r` behind it."""
    if op == R_TEXT:
        n: i64 = r.length()
        start: i64 = r.at
        put_escaped(w, r.data, start, start + n, quoting)
        r.at = start + n
    elif op == R_INT:
        put_int(w, r.long())
    elif op == R_BOOL:
        w.append(49 if r.data[r.at] else 48)
        r.at += 1
    elif op == R_DECIMAL:
        n = r.length()
        start = r.at
        put_decimal(w, r.data, start, n, param)
        r.at = start + n
    elif op == R_INSTANT_PG:
        n = r.length()
        start = r.at
        r.at = start + n
        put_instant(w, r.data, start, start + n)
    elif op == R_STAMP_US:
        put_stamp(w, r.long())
    elif op == R_STAMP_MS:
        put_stamp_ms(w, r.long())
    elif op == R_DATE:
        if put_date(w, r.long()):
            w.write(b" BC")
    else:
        put_rare(w, r, plan, i, op, param, quoting)


def put_instant(w: BytesWriter, data: bytes, at: i64, end: i64) -> None:
    """`+294276-…` and `-0043-…` (44 BC) are ISO 8601, but Postgres writes no sign and ` BC`; `infinity` stays."""
    if at == end or (data[at] != 43 and (data[at] != 45 or data[at + 1] == 105)):
        w.write(data[at:end])
        return
    if data[at] == 43:
        w.write(data[at + 1 : end])
        return
    year, _, rest = data[at + 1 : end].partition(b"-")
    w.write(str(int(year) + 1).rjust(4, "0").encode())
    w.append(45)
    w.write(rest)
    w.write(b" BC")


def scaled(ms: i64) -> i64:
    if ms > 9223372036854775 or ms < -9223372036854775:
        raise ValueError("a time in milliseconds beyond what microseconds can hold")
    return ms * 1000


def put_rare(w: BytesWriter, r: Reader, plan: Plan, i: i64, op: i64, param: i64, quoting: i64) -> None:
    data = r.data
    if op in (R_TIME_US, R_TIME_MS, R_DURATION):
        us: i64 = r.long()
        if op == R_TIME_MS:
            us = scaled(us)
        if us < 0:
            w.append(45)
            us = -us
        put_clock(w, us)
    elif op == R_DOUBLE:
        w.write(float_text(read_f64_le(data, r.at)))
        r.at += 8
    elif op == R_FLOAT:
        w.write(float_text(read_f32_le(data, r.at)))
        r.at += 4
    elif op == R_NUMBER:
        scale: i64 = r.long()
        if scale > 20000 or scale < -200000:
            raise ValueError("a decimal scale beyond what any source has")
        n: i64 = r.length()
        put_decimal(w, data, r.at, n, scale)
        r.at += n
    elif op in (R_HEX, R_HEX_PG, R_BITS, R_BITS_TEXT):
        n = r.length()
        start: i64 = r.at
        if op in (R_BITS, R_BITS_TEXT):
            put_bits(w, data, start, n, param)
        else:
            if op == R_HEX_PG:
                w.write(b"\\\\x" if quoting == Q_COPY else b"\\x")
            put_hex(w, data, start, start + n)
        r.at = start + n
    elif op in (R_ARRAY_PG, R_ARRAY_JSON, R_VECTOR):
        text = array_text(r, plan, i, op)
        put_escaped(w, text, 0, len(text), quoting)
    elif op == R_VECTOR_HEX:
        n = r.block()
        while n:
            put_hex(w, data, r.at, r.at + 4 * n)
            r.at += 4 * n
            n = r.block()
    elif op in (R_EWKB, R_GEO_MY):
        put_geometry(w, r, op, quoting)
    elif op == R_INSTANT:
        n = r.length()
        text = data[r.at : r.at + n].replace(b"T", b" ").replace(b"Z", b"")
        put_escaped(w, text, 0, len(text), quoting)
        r.at += n
    else:
        raise ValueError("an unknown opcode")


def put_geometry(w: BytesWriter, r: Reader, op: i64, quoting: i64) -> None:
    n: i64 = r.length()
    start: i64 = r.at
    r.at = start + n
    srid: i64 = r.long() if r.branch() else 0
    data = r.data
    if op == R_GEO_MY:
        put_le32(w, srid)
        put_hex(w, data, start, start + n)
        return
    w.write(b"\\\\x" if quoting == Q_COPY else b"\\x")
    if srid == 0 or n < 5:
        put_hex(w, data, start, start + n)
        return
    # EWKB: the type word with the flag 0x20000000, then the SRID, in the byte order of the geometry.
    put_hex(w, data, start, start + 1)
    little = data[start] == 1
    kind: i64 = start + 4 if little else start + 1
    at: i64 = start + 1
    while at < start + 5:
        c: i64 = data[at]
        if at == kind:
            c |= 0x20
        w.append(HEX[c >> 4])
        w.append(HEX[c & 15])
        at += 1
    if little:
        put_le32(w, srid)
    else:
        put_hex(w, (int(srid) & 0xFFFFFFFF).to_bytes(4, "big"), 0, 4)
    put_hex(w, data, start + 5, start + n)


def put_le32(w: BytesWriter, v: i64) -> None:
    put_hex(w, (int(v) & 0xFFFFFFFF).to_bytes(4, "little"), 0, 4)


def array_text(r: Reader, plan: Plan, i: i64, op: i64) -> bytes:
    """A Postgres array literal, a JSON array, or a vector literal `[1,2]`."""
    item_op: i64 = plan.item_ops[i]
    param: i64 = plan.item_params[i]
    parts: list[bytes] = []
    n: i64 = r.block()
    while n:
        while n:
            if op != R_VECTOR and r.branch() == 0:
                parts.append(b"NULL" if op == R_ARRAY_PG else b"null")
            else:
                w = BytesWriter()
                put_value(w, r, plan, i, item_op, param, Q_RAW)
                parts.append(array_item(w.getvalue(), item_op, op))
            n -= 1
        n = r.block()
    body = b",".join(parts)
    return b"{" + body + b"}" if op == R_ARRAY_PG else b"[" + body + b"]"


def array_item(text: bytes, item_op: i64, op: i64) -> bytes:
    if op == R_VECTOR:
        return text
    if op == R_ARRAY_PG:
        return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    if item_op == R_BOOL:
        return b"true" if text == b"1" else b"false"
    if item_op in (R_INT, R_DECIMAL, R_NUMBER):
        return text
    if item_op in (R_FLOAT, R_DOUBLE) and text not in (b"NaN", b"Infinity", b"-Infinity"):
        return text
    return json_string(text)


def json_string(text: bytes) -> bytes:
    out = BytesWriter()
    out.append(34)
    for c in text:
        if c == 34 or c == 92:
            out.append(92)
            out.append(c)
        elif c < 32:
            out.write(b"\\u00")
            out.append(HEX[c >> 4])
            out.append(HEX[c & 15])
        else:
            out.append(c)
    out.append(34)
    return out.getvalue()


# ---- one row


def is_hex(op: i64) -> bool:
    return op in (R_HEX, R_GEO_MY, R_VECTOR_HEX)


def put_field(w: BytesWriter, r: Reader, plan: Plan, i: i64, quoting: i64) -> None:
    """A value that is there, as it stands in a line or a VALUES list."""
    op: i64 = plan.ops[i]
    if quoting != Q_SQL or op == R_BOOL:  # MySQL: '1' is the letter for a bit(1), 1 is the number for every type
        put_value(w, r, plan, i, op, plan.params[i], quoting)
        return
    if is_hex(op):
        w.append(120)
    elif op == R_BITS:
        w.append(98)
    w.append(39)
    put_value(w, r, plan, i, op, plan.params[i], quoting)
    w.append(39)


def put_row(w: BytesWriter, r: Reader, plan: Plan) -> None:
    """A whole row at `r`, its fields separated: tabs, or commas in SQL."""
    quoting: i64 = plan.quoting
    separator: i64 = 44 if quoting == Q_SQL else 9
    nullable = plan.nullable
    ops = plan.ops
    i: i64 = 0
    while i < plan.count:
        if i:
            w.append(u8(separator))
        if nullable[i] and r.branch() == 0:
            put_null(w, quoting)
        elif quoting == Q_COPY and ops[i] == R_TEXT:
            n: i64 = r.length()
            start: i64 = r.at
            put_escaped(w, r.data, start, start + n, quoting)
            r.at = start + n
        else:
            put_field(w, r, plan, i, quoting)
        i += 1


def row_fields(r: Reader, plan: Plan, quoting: int) -> list[object]:
    """The fields of a row at `r`, each as bytes or None."""
    out: list[object] = []
    i: i64 = 0
    while i < plan.count:
        if plan.nullable[i] and r.branch() == 0:
            out.append(None)
        else:
            w = BytesWriter()
            put_field(w, r, plan, i, quoting)
            out.append(w.getvalue())
        i += 1
    return out


def key_fields(r: Reader, plan: Plan, quoting: int) -> list[object]:
    """The fields of a key record at `r`, in key order."""
    out: list[object] = []
    for number in plan.key:
        w = BytesWriter()
        put_field(w, r, plan, number, quoting)
        out.append(w.getvalue())
    if r.at != r.end:
        raise ValueError("a key that is longer or shorter than its frame")
    return out


def exact_value(plan: Plan, column: int, text: str, quoting: int) -> object:
    """A field given as the source's own text: bytes, or None for a zero date where that is asked for."""
    op = plan.ops[column]
    is_time = op in (R_DATE, R_STAMP_MS, R_STAMP_US, R_INSTANT_PG)
    if plan.null_zero_dates and is_time and (text.startswith("0000") or "-00" in text[:10]):
        return None
    return exact_field(text, op, quoting)


def exact_field(text: str, op: int, quoting: int) -> bytes:
    """A value given as the source's own text."""
    raw = text.encode()
    if op == R_ARRAY_JSON:
        raw = json_of_array(text)
    if quoting == Q_RAW:
        return raw
    w = BytesWriter()
    if quoting == Q_SQL:
        if op == R_BITS:
            w.append(98)
        w.append(39)
    put_escaped(w, raw, 0, len(raw), quoting)
    if quoting == Q_SQL:
        w.append(39)
    return w.getvalue()


def json_of_array(text: str) -> bytes:
    """A Postgres array literal as JSON, items as strings unless they are numbers; bounds (`[0:1]=`) are left out."""
    out: list[str] = []
    i = text.index("{")
    while i < len(text):
        c = text[i]
        if c == "{":
            out.append("[")
            i += 1
        elif c == "}":
            out.append("]")
            i += 1
        elif c == ",":
            out.append(",")
            i += 1
        elif c == '"':
            item, i = _quoted_item(text, i + 1)
            out.append(json_string(item.encode()).decode())
        else:
            start = i
            while text[i] not in ",}":
                i += 1
            out.append(_bare_item(text[start:i]))
    return "".join(out).encode()


def _quoted_item(text: str, i: int) -> tuple[str, int]:
    item: list[str] = []
    while text[i] != '"':
        if text[i] == "\\":
            i += 1
        item.append(text[i])
        i += 1
    return "".join(item), i + 1


def _bare_item(item: str) -> str:
    if item == "NULL":
        return "null"
    digits = item.removeprefix("-").replace(".", "", 1)
    if digits.isascii() and digits.isdigit() and not (len(digits) > 1 and digits[0] == "0" and "." not in item):
        return item
    return json_string(item.encode()).decode()


# ---- many events


def after_headers(data: bytes, at: i64) -> i64:
    """The place after a record's headers, which must lie inside `data`."""
    if data[at] == 0:
        return at + 1
    after: i64 = skip_headers(data, at)
    if after <= at or after > len(data):
        raise ValueError("torn record frame")
    return after


@final
class Odd:
    """The last state of a key that met an event with values not sent or given as text: fields by column.

    `fresh`: the row did not exist before this state, so that values not sent are NULL, not the target's.
    """

    def __init__(self, key: list[object], fields: list[object] | None, fresh: bool) -> None:
        self.key = key
        self.fields = fields
        self.fresh = fresh


@final
class Counts:
    """Events by kind."""

    def __init__(self) -> None:
        self.loaded = 0
        self.inserts = 0
        self.updates = 0
        self.deletes = 0

    def add(self, op: i64) -> None:
        if op == OP_READ:
            self.loaded += 1
        elif op == OP_CREATE:
            self.inserts += 1
        elif op == OP_UPDATE:
            self.updates += 1
        else:
            self.deletes += 1


@final
class Compacted:
    """The last state of every key.

    `upserts` and `deletes`: lines, or rows of a VALUES list with a comma after each, in chunks of whole rows, as whole
    rows in table order; of a delete only the key columns hold values. `partial`: columns not sent → lines of updates;
    `fresh`: the same of inserts, whose unsent columns are NULL. `*_count`: how many rows.
    """

    def __init__(self) -> None:
        self.upserts: list[bytes] = []
        self.upsert_count = 0
        self.deletes: list[bytes] = []
        self.delete_count = 0
        self.partial: dict[tuple[int, ...], list[bytes]] = {}
        self.fresh: dict[tuple[int, ...], list[bytes]] = {}


DELETE_MARK: Final = 0
UPSERT_MARK: Final = 1
ODD_MARK: Final = 2


@final
class Chunks:
    """Bytes gathered in chunks of whole rows of about `limit` bytes; 0 = all in one."""

    def __init__(self, limit: i64) -> None:
        self.limit: i64 = limit
        self.writer = BytesWriter()
        self.full: list[bytes] = []

    def row_ends(self) -> None:
        if self.limit and len(self.writer) >= self.limit:
            self.full.append(self.writer.getvalue())
            self.writer = BytesWriter()

    def all(self) -> list[bytes]:
        if len(self.writer):
            self.full.append(self.writer.getvalue())
            self.writer = BytesWriter()
        return self.full


@final
class Compactor:
    """Takes the frames of a keyed table under one schema, piece by piece in order; keeps the last state per key.

    Keys are told apart by the bytes of their Avro record, and by the exact text where that cannot carry them.
    `head_upsert`, `head_delete`: bytes put before each line (a stage's operation column). `chunk_bytes`: see Chunks.
    """

    def __init__(self, plan: Plan, head_upsert: bytes, head_delete: bytes, chunk_bytes: int = 0) -> None:
        self.plan = plan
        self.chunk_bytes: i64 = chunk_bytes
        self.head_upsert = head_upsert
        self.head_delete = head_delete
        self.data: list[bytes] = []
        # key → number of the piece << 42 | place of the after image << 2 | mark
        self.last: dict[bytes, int] = {}
        self.odd: dict[bytes, Odd] = {}
        self.counts = Counts()
        self.size = 0

    def add(self, data: bytes) -> None:
        """One piece of frames.

        Raises:
            FAULTS: not frames of this schema; what was added before is lost too.
        """
        plan = self.plan
        last = self.last
        counts = self.counts
        number: i64 = len(self.data)
        self.data.append(data)
        self.size += len(data)
        base: i64 = number << 42
        r = Reader(data)
        total: i64 = len(data)
        at: i64 = 0
        while at < total:
            key_length: i64 = i64(read_i32_le(data, at))
            key_at: i64 = at + 4
            if key_length < 5 or key_length > total - key_at:
                raise ValueError("a keyed table's record without a key")
            at = key_at + key_length
            length: i64 = i64(read_i32_le(data, at))
            value_at: i64 = at + 4
            at = value_at
            if length > total - value_at or length < -1:
                raise ValueError("torn record frame")
            if length >= 0:
                at += length
            at = after_headers(data, at)
            if length < 0:
                continue  # a tombstone: its delete came just before
            if length < 5:
                raise ValueError("a value without its header")
            r.walk(plan, value_at + 5, value_at + length)
            counts.add(r.op)
            key = data[key_at + 5 : key_at + key_length]
            if r.unavailable_at >= 0 or r.exact_at >= 0 or key in self.odd:
                self.add_odd(r, key, base)
            elif r.op == OP_DELETE:
                last[key] = int(base | DELETE_MARK)
            else:
                last[key] = int(base | (r.after_at << 2) | UPSERT_MARK)

    def add_odd(self, r: Reader, plain_key: bytes, base: i64) -> None:
        """An event with values not sent or given as text, or a later one of such a key."""
        exact = r.exact()
        names = r.unavailable()
        exact_key = self.exact_key(exact, "before." if r.op == OP_DELETE else "after.")
        key = plain_key + repr(sorted(exact_key.items())).encode() if exact_key else plain_key
        if r.op == OP_DELETE:
            if exact_key:
                self.odd[key] = Odd(self.key_texts(plain_key, exact_key), None, False)
                self.last[key] = int(base | ODD_MARK)
            else:
                self.odd.pop(key, None)
                self.last[key] = int(base | DELETE_MARK)
        elif exact or names:
            self.odd[key] = self.odd_row(r, key, exact, names)
            self.last[key] = int(base | ODD_MARK)
        else:
            self.odd.pop(key, None)
            self.last[key] = int(base | (r.after_at << 2) | UPSERT_MARK)

    def odd_row(self, r: Reader, key: bytes, exact: dict[str, str], names: list[str]) -> Odd:
        plan = self.plan
        r.at = r.after_at
        fields = row_fields(r, plan, int(plan.quoting))
        for name, text in exact.items():
            if name.startswith("after."):
                column = plan.numbers[name[6:]]
                fields[column] = exact_value(plan, column, text, int(plan.quoting))
        fresh = r.op != OP_UPDATE
        if names:
            earlier = self.fields_of(key)
            previous = self.odd.get(key)
            if r.op == OP_UPDATE and previous is not None and previous.fields is not None:
                fresh = previous.fresh
            for name in names:
                column = plan.numbers[name]
                fields[column] = MISSING if earlier is None else earlier[column]
        return Odd([], fields, fresh)

    def exact_key(self, exact: dict[str, str], image: str) -> dict[int, str]:
        """Key columns whose value is given as text: the Avro key cannot tell such rows apart."""
        out: dict[int, str] = {}
        for name, text in exact.items():
            if name.startswith(image):
                number = self.plan.numbers[name[len(image) :]]
                if number in self.plan.key:
                    out[number] = text
        return out

    def key_texts(self, key: bytes, exact_key: dict[int, str]) -> list[object]:
        r = Reader(key)
        texts = key_fields(r, self.plan, int(self.plan.quoting))
        for place, number in enumerate(self.plan.key):
            if number in exact_key:
                texts[place] = exact_field(exact_key[number], self.plan.ops[number], self.plan.quoting)
        return texts

    def fields_of(self, key: bytes) -> list[object] | None:
        """The fields of a key's state so far, None where there is no row of it in this batch."""
        state = self.last.get(key)
        if state is None:
            return None
        mark = state & 3
        if mark == ODD_MARK:
            return self.odd[key].fields
        if mark == DELETE_MARK:
            return None
        r = Reader(self.data[state >> 42])
        r.at = (state & 0x3FFFFFFFFFF) >> 2
        return row_fields(r, self.plan, self.plan.quoting)

    def finish(self) -> Compacted:
        """The lines. Order of keys is that of their first event."""
        plan = self.plan
        out = Compacted()
        upserts = Chunks(self.chunk_bytes)
        deletes = Chunks(self.chunk_bytes)
        head_upsert = self.head_upsert
        head_delete = self.head_delete
        readers: list[Reader] = [Reader(data) for data in self.data]
        upsert_count: i64 = 0
        delete_count: i64 = 0
        for key, packed in self.last.items():
            state: i64 = packed
            mark: i64 = state & 3
            if mark == UPSERT_MARK:
                r = readers[state >> 42]
                r.at = (state & 0x3FFFFFFFFFF) >> 2
                w = upserts.writer
                w.write(head_upsert)
                put_row(w, r, plan)
                self.put_end(w)
                upserts.row_ends()
                upsert_count += 1
            elif mark == DELETE_MARK:
                deletes.writer.write(head_delete)
                self.put_key(deletes, key_fields(Reader(key), plan, int(plan.quoting)))
                delete_count += 1
            else:
                odd = self.odd[key]
                if odd.fields is None:
                    deletes.writer.write(head_delete)
                    self.put_key(deletes, odd.key)
                    delete_count += 1
                elif any(field is MISSING for field in odd.fields):
                    missing = tuple(i for i, field in enumerate(odd.fields) if field is MISSING)
                    into = out.fresh if odd.fresh else out.partial
                    into.setdefault(missing, []).append(self.line(odd.fields))
                else:
                    upserts.writer.write(head_upsert)
                    upserts.writer.write(self.line(odd.fields))
                    upserts.row_ends()
                    upsert_count += 1
        out.upserts = upserts.all()
        out.upsert_count = int(upsert_count)
        out.deletes = deletes.all()
        out.delete_count = int(delete_count)
        return out

    def put_end(self, w: BytesWriter) -> None:
        if self.plan.quoting == Q_SQL:
            w.append(41)
            w.append(44)
        else:
            w.append(10)

    def put_key(self, chunks: Chunks, fields: list[object]) -> None:
        """A delete's line: key columns in their places, the rest NULL."""
        plan = self.plan
        row: list[object] = [None] * int(plan.count)
        for place, number in enumerate(plan.key):
            row[number] = fields[place]
        chunks.writer.write(joined_fields(row, int(plan.quoting)))
        self.put_end(chunks.writer)
        chunks.row_ends()

    def line(self, fields: list[object]) -> bytes:
        w = BytesWriter()
        w.write(joined_fields(fields, self.plan.quoting))
        self.put_end(w)
        return w.getvalue()


def joined_fields(fields: list[object], quoting: int) -> bytes:
    null = b"NULL" if quoting == Q_SQL else b"\\N"
    parts: list[bytes] = [field if isinstance(field, bytes) else null for field in fields]
    return (b"," if quoting == Q_SQL else b"\t").join(parts)


# ---- slow paths


def texts_of(fields: list[object]) -> list[object]:
    return [field.decode() if isinstance(field, bytes) else field for field in fields]


def overlay(fields: list[object], exact: dict[str, str], image: str, plan: Plan, quoting: int) -> None:
    for name, text in exact.items():
        if name.startswith(image):
            column = plan.numbers[name[len(image) :]]
            fields[column] = exact_value(plan, column, text, quoting)


def source_order(r: Reader, binlog: bool) -> tuple[int, int, int]:
    """(log file or 0, commit LSN or position, ordinal in the transaction); zeros for a loaded row."""
    if r.transaction_at < 0:
        return (0, 0, 0)
    r.at = r.transaction_at
    identity = r.text()
    ordinal = int(r.long())
    if not binlog:
        high, _, low = identity.rpartition(":")[2].partition("/")
        if low:
            return (0, int(high, 16) << 32 | int(low, 16), ordinal)
        return (0, int(high), ordinal)
    r.at = r.source_at
    # version, connector, name, ts_ms, snapshot, db, sequence, ts_us, ts_ns, table, server_id, gtid: then file and pos
    r.skip_letters(b"ssslEsSLLSlS")
    file = r.text()
    position = int(r.long())
    suffix = file.rpartition(".")[2]
    return (int(suffix) if suffix.isdigit() else 0, position, ordinal)


def changes(plan: Plan, data: bytes, binlog: bool, quoting: int) -> list[Change]:
    """Every event of one piece, decoded to texts (Q_RAW) or SQL literals (Q_SQL), in frame order.

    Raises:
        FAULTS: not frames of this schema.
    """
    out: list[Change] = []
    at: i64 = 0
    total: i64 = len(data)
    while at < total:
        key_length: i64 = i64(read_i32_le(data, at))
        key_at: i64 = at + 4
        at = key_at
        if key_length > total - key_at or key_length < -1:
            raise ValueError("torn record frame")
        if key_length > 0:
            at += key_length
        length: i64 = i64(read_i32_le(data, at))
        value_at: i64 = at + 4
        at = value_at
        if length > total - value_at or length < -1:
            raise ValueError("torn record frame")
        if length > 0:
            at += length
        headers: i64 = at
        at = after_headers(data, at)
        if length < 0:
            continue
        r = Reader(data)
        r.walk(plan, value_at + 5, value_at + length)
        change = change_of(plan, r, data, key_at, key_length, binlog, quoting)
        change.moved = NEW_KEY in data[headers:at]
        out.append(change)
    return out


def change_of(plan: Plan, r: Reader, data: bytes, key_at: i64, key_length: i64, binlog: bool, quoting: int) -> Change:
    change = Change()
    change.op = int(r.op)
    exact = r.exact()
    missing = r.unavailable()
    if r.before_at >= 0:
        r.at = r.before_at
        before = row_fields(r, plan, quoting)
        overlay(before, exact, "before.", plan, quoting)
        change.before = texts_of(before)
    if r.after_at >= 0:
        r.at = r.after_at
        after = row_fields(r, plan, quoting)
        overlay(after, exact, "after.", plan, quoting)
        for name in missing:
            after[plan.numbers[name]] = MISSING
        change.after = texts_of(after)
    change.order = source_order(r, binlog)
    if len(plan.key) and key_length >= 5:
        k = Reader(data)
        k.at = key_at + 5
        k.end = key_at + key_length
        key = texts_of(key_fields(k, plan, quoting))
        image = change.before if change.op == OP_DELETE else change.after
        word = "before." if change.op == OP_DELETE else "after."
        for name in exact:
            if image is not None and name.startswith(word) and plan.numbers[name[len(word) :]] in plan.key:
                number = plan.numbers[name[len(word) :]]
                key[plan.key.index(number)] = image[number]
        change.key = key
    return change


def schema_runs(data: bytes) -> list[tuple[int, bytes]]:
    """A piece parted where the value's schema id changes: (schema id, frames). Tombstones stay with the event before
    them; a piece of tombstones alone has id -1."""
    out: list[tuple[int, bytes]] = []
    at: i64 = 0
    start: i64 = 0
    total: i64 = len(data)
    current: i64 = -1
    while at < total:
        frame: i64 = at
        n: i64 = i64(read_i32_le(data, at))
        at += 4
        if n > total - at or n < -1:
            raise ValueError("torn record frame")
        if n > 0:
            at += n
        n = i64(read_i32_le(data, at))
        at += 4
        value_at: i64 = at
        if n > total - at or n < -1:
            raise ValueError("torn record frame")
        if n > 0:
            at += n
        at = after_headers(data, at)
        if n < 0:
            continue
        if n < 5 or data[value_at] != 0:
            raise ValueError("a value without the Confluent header")
        a: i64 = data[value_at + 1]
        b: i64 = data[value_at + 2]
        c: i64 = data[value_at + 3]
        d: i64 = data[value_at + 4]
        schema: i64 = a << 24 | b << 16 | c << 8 | d
        if schema != current:
            if current >= 0:
                out.append((int(current), data[start:frame]))
                start = frame
            current = schema
    if at != total:
        raise ValueError("torn record frame")
    out.append((int(current), data[start:] if start else data))
    return out


def is_compiled() -> bool:
    """True when this module runs as machine code."""
    return not __file__.endswith(".py")
