"""Random typed rows: what a column's values are, and random parts of them that every engine shares.

A `Values` gives literals as they stand in a VALUES list: first its edge values, then random ones.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

Make = Callable[[Random], str]


@dataclass(frozen=True, slots=True)
class Values:
    """One column. `type`: as in CREATE TABLE. `edges`, `make`: SQL literals.

    `shown`, `there`: what a source and a target of another engine are asked for, `{}` being the column; `same`: both
    answers to what must be equal.
    """

    type: str
    edges: tuple[str, ...]
    make: Make
    shown: str = "{}"
    there: str = "{}"
    same: Callable[[str], object] = str


Family = dict[str, tuple[Values, ...]]


def rows(family: tuple[Values, ...], count: int, random: Random) -> list[list[str]]:
    """`count` rows of literals: every edge value at least once (if `count` allows), a NULL here and there."""

    def column(values: Values) -> list[str]:
        out = ["NULL" if random.random() < 0.03 else values.make(random) for _ in range(count - len(values.edges))]
        out += values.edges
        random.shuffle(out)
        return out[:count]

    return [list(row) for row in zip(*(column(values) for values in family), strict=True)]


def integer(bits: int, signed: bool = True) -> Make:
    """As many short numbers as long ones."""

    def make(random: Random) -> str:
        size = random.randint(1, bits - signed)
        value = random.getrandbits(size)
        return str(-value - 1 if signed and random.random() < 0.5 else value)

    return make


def decimal(precision: int, scale: int) -> Make:
    def make(random: Random) -> str:
        digits = random.randint(1, precision)
        value = Decimal(random.randrange(10**digits)).scaleb(-scale)
        return f"{-value if random.random() < 0.5 and value else value:f}"

    return make


def float64(random: Random) -> str:
    """Finite, of any size."""
    while True:
        value = struct.unpack("<d", random.randbytes(8))[0]
        if value == value and abs(value) != float("inf") and abs(value) > 2.3e-308:
            return repr(value)


def float32(random: Random) -> str:
    while True:
        value = struct.unpack("<f", random.randbytes(4))[0]
        if value == value and 1.2e-38 < abs(value) < 3.4e38:
            return repr(value)


# What breaks careless code: quotes, escapes, separators, blanks, characters of two to four bytes, combining ones.
_ALPHABET = (
    "abcXYZ019 _-'\"\\\t\n\r\x01\x1a\x7f,;{}()[]<>%$&|~`^äß€\u0301\u200b\u00a0\u2028\uff3c日本\U0001f600\U00010348"
)


def characters(random: Random, longest: int, alphabet: str = _ALPHABET) -> str:
    size = random.choice((0, 1, 2, random.randint(0, longest), random.randint(0, min(12, longest))))
    return "".join(random.choices(alphabet, k=min(size, longest)))


def octets(random: Random, longest: int) -> bytes:
    size = random.choice((0, 1, random.randint(0, longest)))
    return b"".join(random.choice((b"\0", b"\xff", b"\\", b"'", random.randbytes(1))) for _ in range(size))


def moment(random: Random, first: datetime, last: datetime, digits: int) -> datetime:
    """Between the two, with `digits` fractional digits."""
    micros = random.randrange((last - first) // timedelta(microseconds=1))
    unit = int(10 ** (6 - digits))
    value = first + timedelta(microseconds=micros)
    return value.replace(microsecond=value.microsecond // unit * unit)


def stamp(value: datetime, digits: int) -> str:
    text = f"{value.year:04d}-{value:%m-%d %H:%M:%S}"
    return f"{text}.{value:%f}"[: len(text) + 1 + digits] if digits else text


def clock(random: Random, hours: int, digits: int) -> str:
    fraction = f".{random.randrange(10**digits):0{digits}d}" if digits else ""
    return f"{random.randrange(hours):02d}:{random.randrange(60):02d}:{random.randrange(60):02d}{fraction}"


def document(random: Random, depth: int = 3) -> object:
    """JSON whose numbers every engine keeps."""
    kind = random.randrange(8 if depth else 6)
    if kind == 0:
        return None
    if kind == 1:
        return random.random() < 0.5
    if kind == 2:
        return int(integer(63)(random))
    if kind == 3:
        return random.randrange(-(10**9), 10**9) / 2**10
    if kind < 6:
        return characters(random, 20)
    if kind == 6:
        return [document(random, depth - 1) for _ in range(random.randrange(4))]
    return {characters(random, 6): document(random, depth - 1) for _ in range(random.randrange(4))}


def json_text(random: Random) -> str:
    return json.dumps(document(random), ensure_ascii=random.random() < 0.5)


FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
