"""Single values of MySQL and MariaDB: binlog form or text form to numbers, text and Avro bytes.

Compiled with mypyc; the same file runs interpreted. Times come back as numbers with `NOT_A_TIME` for what has no place
on the calendar (zero and partial dates, days a month does not have); their exact text comes from the `*_text`
functions. A number never wraps and nothing is rounded.
Formats: MySQL source, `sql-common/my_time.cc` (…2 types), `strings/decimal.cc` (decimal_bin), `Field_*::store`.
"""

from typing import Final

from librt.strings import BytesWriter, read_i32_be, read_i32_le
from mypy_extensions import i64, u8

from tailrace_schemas.wire import put_long, put_unscaled, put_unscaled_big

NOT_A_TIME: Final[i64] = -(1 << 62)
_DIGIT_BYTES: Final = bytes([0, 1, 1, 2, 2, 3, 3, 4, 4, 4])


def be(m: bytes, o: i64, n: i64) -> i64:
    """Unsigned big-endian integer of n <= 7 bytes."""
    v: i64 = 0
    end: i64 = o + n
    while o < end:
        c: i64 = m[o]
        v = (v << 8) | c
        o += 1
    return v


def le(m: bytes, o: i64, n: i64) -> i64:
    """Unsigned little-endian integer of n <= 7 bytes; of 8 bytes as if signed."""
    v: i64 = 0
    i: i64 = n - 1
    while i >= 0:
        c: i64 = m[o + i]
        v = (v << 8) | c
        i -= 1
    return v


def unsigned64(m: bytes, o: i64) -> int:
    return (int(read_i32_le(m, o + 4)) & 0xFFFFFFFF) << 32 | (int(read_i32_le(m, o)) & 0xFFFFFFFF)


def put_unsigned64(w: BytesWriter, v: i64, value: int) -> None:
    """Avro decimal of an unsigned 64-bit number given in both forms; `v` is negative when it is above 2^63 - 1."""
    if v >= 0:
        put_unscaled(w, v)
    else:
        put_unscaled_big(w, value)


# ---- decimals


def decimal_size(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale) in a row image."""
    whole = precision - scale
    return whole // 9 * 4 + _DIGIT_BYTES[whole % 9] + scale // 9 * 4 + _DIGIT_BYTES[scale % 9]


def decimal_small(m: bytes, o: i64, precision: i64, scale: i64) -> i64:
    """The unscaled value of a decimal of up to 18 digits: groups of 9 digits in 4 bytes, the first byte's top bit
    inverted, all bits inverted when negative."""
    whole: i64 = precision - scale
    first: i64 = m[o]
    mask: i64 = 0 if first & 0x80 else 0xFF
    flip: i64 = 0x80
    v: i64 = 0
    digits: i64 = whole % 9
    n: i64 = _DIGIT_BYTES[digits]
    groups: i64 = whole // 9 + scale // 9
    part: i64 = 0
    while n > 0:
        c: i64 = m[o]
        part = (part << 8) | ((c ^ flip ^ mask) & 0xFF)
        flip = 0
        o += 1
        n -= 1
    v = part
    while groups > 0:
        part = 0
        n = 4
        while n > 0:
            c = m[o]
            part = (part << 8) | ((c ^ flip ^ mask) & 0xFF)
            flip = 0
            o += 1
            n -= 1
        v = v * 1000000000 + part
        groups -= 1
    digits = scale % 9
    n = _DIGIT_BYTES[digits]
    if n:
        part = 0
        while n > 0:
            c = m[o]
            part = (part << 8) | ((c ^ flip ^ mask) & 0xFF)
            flip = 0
            o += 1
            n -= 1
        while digits > 0:
            v *= 10
            digits -= 1
        v += part
    return v if mask == 0 else -v


def decimal_big(raw: bytes, precision: int, scale: int) -> int:
    """As `decimal_small`, for any precision; `raw` is exactly the value's bytes."""
    negative = raw[0] & 0x80 == 0
    data = bytes([raw[0] ^ 0x80]) + raw[1:]
    if negative:
        data = bytes([c ^ 0xFF for c in data])
    value = 0
    at = 0
    whole = precision - scale
    sizes = [whole % 9] + [9] * (whole // 9) + [9] * (scale // 9) + [scale % 9]
    for digits in sizes:
        n = int(_DIGIT_BYTES[digits])
        value = value * 10**digits + int.from_bytes(data[at : at + n], "big")
        at += n
    return -value if negative else value


def unscaled_text(m: bytes, o: i64, end: i64) -> i64:
    """The digits of a decimal text of up to 18 digits, as a number: the dot is skipped."""
    v: i64 = 0
    negative = m[o] == 45
    if negative:
        o += 1
    while o < end:
        c: i64 = m[o]
        if c != 46:
            if c < 48 or c > 57:
                raise ValueError("not a decimal")
            v = v * 10 + (c - 48)
        o += 1
    return -v if negative else v


# ---- dates and times


def days_of(year: i64, month: i64, day: i64) -> i64:
    """Days since 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date
    Algorithms"), or NOT_A_TIME. Year 0 is a year like others, as MySQL prints it."""
    if month < 1 or month > 12 or day < 1:
        return NOT_A_TIME
    if day > 28:
        if month == 2:
            leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
            if day > 29 or not leap:
                return NOT_A_TIME
        elif day > 31 or (day == 31 and (month == 4 or month == 6 or month == 9 or month == 11)):
            return NOT_A_TIME
    if month <= 2:
        year -= 1
    era: i64 = (year if year >= 0 else year - 399) // 400
    of_era: i64 = year - era * 400
    of_year: i64 = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def put_digits(w: BytesWriter, v: i64, width: i64) -> None:
    """Decimal digits of a non-negative number, at least `width` of them."""
    unit: i64 = 1
    n: i64 = 1
    while v // unit >= 10 or n < width:
        unit *= 10
        n += 1
    while unit > 0:
        w.append(u8(48 + (v // unit) % 10))
        unit = unit // 10


def put_date(w: BytesWriter, days: i64) -> None:
    """`YYYY-MM-DD` of days since 1970-01-01 (year 0 or later)."""
    z: i64 = days + 719468
    era: i64 = (z if z >= 0 else z - 146096) // 146097
    doe: i64 = z - era * 146097
    yoe: i64 = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy: i64 = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp: i64 = (5 * doy + 2) // 153
    month: i64 = mp + 3 if mp < 10 else mp - 9
    put_digits(w, yoe + era * 400 + (1 if month <= 2 else 0), 4)
    w.append(45)
    put_digits(w, month, 2)
    w.append(45)
    put_digits(w, doy - (153 * mp + 2) // 5 + 1, 2)


def put_fraction(w: BytesWriter, micros: i64, digits: i64) -> None:
    """`.` and the first `digits` of six."""
    if digits > 0:
        w.append(46)
        unit: i64 = 100000
        while digits > 0:
            w.append(u8(48 + (micros // unit) % 10))
            unit = unit // 10
            digits -= 1


def put_clock(w: BytesWriter, seconds: i64) -> None:
    """`HH:MM:SS`; hours may have three digits."""
    put_digits(w, seconds // 3600, 2)
    w.append(58)
    put_digits(w, seconds // 60 % 60, 2)
    w.append(58)
    put_digits(w, seconds % 60, 2)


def instant_text(seconds: i64, micros: i64, digits: i64) -> bytes:
    """An instant as Debezium's ZonedTimestamp, with exactly `digits` fractional digits: `2024-03-31T01:30:00.5Z`."""
    w = BytesWriter()
    put_date(w, seconds // 86400)
    w.append(84)
    put_clock(w, seconds % 86400)
    put_fraction(w, micros, digits)
    w.append(90)
    return w.getvalue()


def calendar_text(year: i64, month: i64, day: i64) -> bytes:
    """A date as the server prints it, whether it is one or not."""
    w = BytesWriter()
    put_digits(w, year, 4)
    w.append(45)
    put_digits(w, month, 2)
    w.append(45)
    put_digits(w, day, 2)
    return w.getvalue()


def calendar_clock_text(year: i64, month: i64, day: i64, seconds: i64, micros: i64, digits: i64) -> bytes:
    w = BytesWriter()
    w.write(calendar_text(year, month, day))
    w.append(32)
    put_clock(w, seconds)
    put_fraction(w, micros, digits)
    return w.getvalue()


def fraction(m: bytes, o: i64, digits: i64) -> i64:
    """Microseconds from the (digits + 1) // 2 bytes of a fraction."""
    n: i64 = (digits + 1) // 2
    v: i64 = be(m, o, n)
    while n < 3:
        v *= 100
        n += 1
    return v


def time2_micros(m: bytes, o: i64, digits: i64) -> i64:
    """TIME(digits) as signed microseconds. Integer and fraction are one big-endian number with an offset, so a negative
    time borrows from its integer part."""
    n: i64 = (digits + 1) // 2
    # By multiplication: mypyc 2.4 shifts a constant as a C int, of 32 bits.
    offset: i64 = 0x800000
    unit: i64 = 1
    i: i64 = 0
    while i < n:
        offset *= 256
        unit *= 256
        i += 1
    packed: i64 = be(m, o, 3 + n) - offset
    negative = packed < 0
    if negative:
        packed = -packed
    whole: i64 = packed // unit
    micros: i64 = packed % unit
    while n < 3:
        micros *= 100
        n += 1
    v: i64 = (((whole >> 12) & 0x3FF) * 3600 + ((whole >> 6) & 63) * 60 + (whole & 63)) * 1000000 + micros
    return -v if negative else v


# ---- text forms, as a result set gives them


def two(m: bytes, o: i64) -> i64:
    a: i64 = m[o]
    b: i64 = m[o + 1]
    if a < 48 or a > 57 or b < 48 or b > 57:
        raise ValueError("not two digits")
    return (a - 48) * 10 + b - 48


def text_days(m: bytes, o: i64, end: i64) -> i64:
    """`YYYY-MM-DD` to days, or NOT_A_TIME."""
    if end - o < 10:
        raise ValueError("not a date")
    return days_of(two(m, o) * 100 + two(m, o + 2), two(m, o + 5), two(m, o + 8))


def text_clock(m: bytes, o: i64, end: i64) -> i64:
    """`HH:MM:SS[.ffffff]` (two-digit hours) to microseconds."""
    if end - o < 8:
        raise ValueError("not a time of day")
    v: i64 = two(m, o) * 3600 + two(m, o + 3) * 60 + two(m, o + 6)
    return v * 1000000 + text_fraction(m, o + 8, end)


def text_fraction(m: bytes, o: i64, end: i64) -> i64:
    if o >= end:
        return 0
    if m[o] != 46 or end - o > 7:
        raise ValueError("not a fraction of a second")
    v: i64 = 0
    n: i64 = 0
    o += 1
    while o < end:
        c: i64 = m[o]
        if c < 48 or c > 57:
            raise ValueError("not a fraction of a second")
        v = v * 10 + c - 48
        n += 1
        o += 1
    while n < 6:
        v *= 10
        n += 1
    return v


def text_duration(m: bytes, o: i64, end: i64) -> i64:
    """`[-]H…:MM:SS[.ffffff]` to signed microseconds."""
    negative = m[o] == 45
    if negative:
        o += 1
    hours: i64 = 0
    while o < end and m[o] != 58:
        c: i64 = m[o]
        if c < 48 or c > 57:
            raise ValueError("not a time")
        hours = hours * 10 + c - 48
        o += 1
    if end - o < 6:
        raise ValueError("not a time")
    v: i64 = (hours * 3600 + two(m, o + 1) * 60 + two(m, o + 4)) * 1000000 + text_fraction(m, o + 6, end)
    return -v if negative else v


# ---- others


def put_bits_reversed(w: BytesWriter, m: bytes, o: i64, n: i64) -> None:
    """BIT(n > 1): big-endian at the source, little-endian in Debezium's Bits."""
    put_long(w, n)
    i: i64 = n - 1
    while i >= 0:
        w.append(u8(m[o + i]))
        i -= 1


def uuid_text(raw: bytes) -> bytes:
    """MariaDB's UUID from its 16 bytes in a row. Time-based and random ones (versions 1-5) are stored with their parts
    in reverse order, so that they sort by time; others as they are (MariaDB source, sql_type_uuid.h)."""
    if raw[6] & 0x80 and 0 < raw[8] < 0x60:
        raw = raw[12:16] + raw[10:12] + raw[8:10] + raw[6:8] + raw[0:6]
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


def inet4_text(raw: bytes) -> bytes:
    return b"%d.%d.%d.%d" % (raw[0], raw[1], raw[2], raw[3])


def inet6_text(raw: bytes) -> bytes:
    """As MariaDB prints it: the longest run of zero groups, even of one, as `::` (the first of equals), addresses that
    embed an IPv4 one with dots (MariaDB source, Inet6::to_string)."""
    groups = [raw[i] << 8 | raw[i + 1] for i in range(0, 16, 2)]
    best, best_length, i = -1, 0, 0
    while i < 8:
        j = i
        while j < 8 and groups[j] == 0:
            j += 1
        if j - i > best_length:
            best, best_length = i, j - i
        i = max(j, i + 1)
    out = ""
    i = 0
    while i < 8:
        if i == best:
            out += "::" if i == 0 else ":"
            i += best_length
            continue
        if i == 6 and best == 0 and (best_length == 6 or (best_length == 5 and groups[5] == 0xFFFF)):
            return (out + inet4_text(raw[12:]).decode()).encode()
        out += f"{groups[i]:x}" + (":" if i < 7 else "")
        i += 1
    return out.encode()


def read_u32_be(m: bytes, o: i64) -> i64:
    return i64(read_i32_be(m, o)) & 0xFFFFFFFF
