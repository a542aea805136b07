"""Values as a target's text: numbers, times, bytes, arrays, rows; COPY, LOAD DATA and SQL literals.

Compiled with mypyc; the same file runs interpreted. Reads a value where a `Reader` stands and writes it in the way of
its opcode, made safe by a Q_ code.
Formats: PostgreSQL manual, COPY "Text Format"; MySQL manual, "String Literals" and LOAD DATA.
"""

from calendar import monthrange
from typing import Final

from librt.strings import BytesWriter, read_f32_le, read_f64_le
from mypy_extensions import i64, u8

from tailrace_sinks.envelope import (
    Q_COPY,
    Q_RAW,
    Q_SQL,
    R_ARRAY_JSON,
    R_ARRAY_PG,
    R_BITS,
    R_BITS_TEXT,
    R_BOOL,
    R_DATE,
    R_DECIMAL,
    R_DOUBLE,
    R_DURATION,
    R_EWKB,
    R_FLOAT,
    R_GEO_MY,
    R_HEX,
    R_HEX_PG,
    R_INSTANT,
    R_INSTANT_PG,
    R_INT,
    R_NUMBER,
    R_STAMP_MS,
    R_STAMP_US,
    R_TEXT,
    R_TIME_MS,
    R_TIME_US,
    R_VECTOR,
    R_VECTOR_HEX,
    R_VECTOR_PG,
    R_YEAR,
    Plan,
    Reader,
)

HEX: Final = b"0123456789abcdef"
MICROS_PER_DAY: Final = 86_400_000_000
JSON_DIGITS: Final = 15  # MySQL's JSON makes a double of a number with a point: this many digits come back the same


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
        value *= 10**-scale
    sign, digits = "-" if value < 0 else "", digits_of(abs(value))
    if scale <= 0:
        return f"{sign}{digits}".encode()
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}".encode()


def digits_of(value: int) -> str:
    """str() of any length from 0 up: Python refuses more than 4300 digits at once (sys.set_int_max_str_digits)."""
    bits: i64 = value.bit_length()
    if bits < 13_000:
        return str(value)
    places = bits * 3 // 20  # about half of the digits
    high, low = divmod(value, 10**places)
    return digits_of(high) + digits_of(low).rjust(places, "0")


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
    elif op in (R_ARRAY_PG, R_ARRAY_JSON, R_VECTOR, R_VECTOR_PG):
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
    elif op == R_YEAR:
        put_padded(w, r.long(), 4)
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
            if op not in (R_VECTOR, R_VECTOR_PG) and r.branch() == 0:
                parts.append(b"NULL" if op == R_ARRAY_PG else b"null")
            else:
                w = BytesWriter()
                put_value(w, r, plan, i, item_op, param, Q_RAW)
                parts.append(array_item(w.getvalue(), item_op, op))
            n -= 1
        n = r.block()
    body = b",".join(parts)
    return b"{" + body + b"}" if op in (R_ARRAY_PG, R_VECTOR_PG) else b"[" + body + b"]"


def array_item(text: bytes, item_op: i64, op: i64) -> bytes:
    if op in (R_VECTOR, R_VECTOR_PG):
        return text
    if op == R_ARRAY_PG:
        return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    if item_op == R_BOOL:
        return b"true" if text == b"1" else b"false"
    if item_op == R_INT:
        return text
    if item_op in (R_DECIMAL, R_NUMBER) and len(text) <= JSON_DIGITS and not text[-1:].isalpha():  # NaN, Infinity
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
    if plan.null_zero_dates and is_time and is_no_day(text):
        return None
    return exact_field(text, op, quoting, plan.item_ops[column])


def is_no_day(text: str) -> bool:
    """A date of MySQL that no calendar has: zero, partial, or beyond the end of its month (ALLOW_INVALID_DATES)."""
    if text.startswith("0000") or "-00" in text[:10]:
        return True
    if text[4:5] != "-" or text[7:8] != "-":
        return False
    return int(text[8:10]) > monthrange(int(text[:4]), int(text[5:7]))[1]


def exact_field(text: str, op: int, quoting: int, item_op: int) -> bytes:
    """A value given as the source's own text. `item_op`: of an array's items."""
    raw = text.encode()
    if op == R_ARRAY_JSON:
        raw = json_of_array(text, item_op)
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


def json_of_array(text: str, item_op: int) -> bytes:
    """A Postgres array literal as JSON, items as `array_item` has them; bounds (`[0:1]=`) are left out."""
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
            out.append(_bare_item(text[start:i], item_op))
    return "".join(out).encode()


def _quoted_item(text: str, i: int) -> tuple[str, int]:
    item: list[str] = []
    while text[i] != '"':
        if text[i] == "\\":
            i += 1
        item.append(text[i])
        i += 1
    return "".join(item), i + 1


def _bare_item(item: str, item_op: int) -> str:
    if item == "NULL":
        return "null"
    if item_op == R_BOOL:
        return "true" if item == "t" else "false"
    return array_item(item.encode(), item_op, R_ARRAY_JSON).decode()
