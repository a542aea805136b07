"""The tables of the workload: their columns, the keys of their numbered rows, and random values for the rest.

Every row has a number, from which its key follows, so that writers know which rows exist without asking. Numbers come
in blocks of ten; a block belongs to one writer. A freshly filled table holds the digits named by `filled` of each
block: the others are holes inside the key range, into which rows are inserted and keys are moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

Word = Literal[
    "int", "big", "small", "bool", "decimal", "number", "float", "date", "stamp", "instant", "time",
    "json", "bytes", "text", "short", "uuid", "external", "bytewise", "locale",
]  # fmt: skip
Value = int | float | str | bytes | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """`word` is the type, spelled by each engine in its own way."""

    name: str
    word: Word
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """`share`: of all rows filled in; `traffic`: of all statements; `moves`: its keys may change."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    share: float
    traffic: float
    filled: str = "123456789"
    moves: bool = True

    @property
    def keyless(self) -> bool:
        return not self.key

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that name a row: the key, or the `tag` of a table without one."""
        return self.key or ("tag",)

    def blocks(self, rows: int) -> int:
        """How many blocks of ten are filled when the whole database gets about `rows` rows."""
        return max(4, int(rows * round(self.share / len(self.filled), 6)))


def _columns(*words: str) -> tuple[Column, ...]:
    """`name word` each, `!` after the word: NOT NULL. Every table has a version."""
    parts = [[*word.rstrip("!").split(), word] for word in words]
    columns = tuple(Column(name, word, not text.endswith("!")) for name, word, text in parts)  # type: ignore[arg-type]
    return (*columns, Column("version", "big", nullable=False))


ACCOUNTS = Table(
    "accounts",
    ("id",),
    _columns("id int!", "name short", "balance decimal!", "active bool", "changed stamp"),
    0.25,
    0.16,
)
ENTRIES = Table("entries", ("id",), _columns("id big!", "amount decimal", "note text", "day date"), 0.22, 0.13)
LINES = Table("lines", ("doc", "line"), _columns("doc int!", "line small!", "item short!", "n int"), 0.14, 0.11)
CODES = Table("codes", ("code",), _columns("code bytewise!", "meaning text", "n big"), 0.08, 0.08)
WORDS = Table("words", ("word",), _columns("word locale!", "n int", "said instant"), 0.05, 0.08, "12345678")
TOKENS = Table("tokens", ("id",), _columns("id uuid!", "secret bytes", "ends instant"), 0.08, 0.08)
WIDE = Table(
    "wide",
    ("id",),
    _columns(
        "id int!", "tiny small", "n int!", "big big", "yes bool", "money decimal", "num number", "real float",
        "day date", "at stamp", "moment instant", "clock time", "doc json",
        "raw bytes", "txt text", "label short!", "ref uuid",
    ),
    0.07,
    0.10,
)  # fmt: skip
DOCUMENTS = Table("documents", ("id",), _columns("id int!", "body external", "title short", "n int"), 0.004, 0.04)
SEATS = Table("seats", ("id",), _columns("id int!", "seat big!", "who short"), 0.03, 0.06)
# A child and its parent have the same block: the shares must give both tables the same number of blocks.
PARENTS = Table("parents", ("id",), _columns("id int!", "name short"), 0.025, 0.05, "123", moves=False)
CHILDREN = Table("children", ("id",), _columns("id big!", "parent int!", "name short"), 0.05, 0.06, "456789")
JOURNAL = Table("journal", (), _columns("tag big!", "line text", "at stamp", "amount decimal"), 0.006, 0.02)
COUNTERS = Table("counters", ("id",), _columns("id int!", "n big!"), 0.0, 0.03, "0123456789", moves=False)

TABLES = (
    ACCOUNTS, ENTRIES, LINES, CODES, WORDS, TOKENS, WIDE, DOCUMENTS, SEATS, PARENTS, CHILDREN, JOURNAL, COUNTERS,
)  # fmt: skip
BY_NAME = {table.name: table for table in TABLES}

# Rows of this tag in `journal` are equal to each other, copies of one row.
COPIES_TAG = 0


# ---- keys

_CODE_PREFIXES = ("a", "B", "Z", "_", "é", "中", "😀", "b", "0", "~")
_WORD_PREFIXES = ("straße", "Élan", "öl", "zebra", "Apfel", "ñu", "tab'le", "b\\s", "co op", "Mixed")


def key_of(table: Table, number: int) -> tuple[Value, ...]:
    """The key of a row, in the order of `table.identity`. Different numbers have different keys."""
    if table is LINES:
        return number // 10, number % 10
    if table is CODES:
        return (f"{_CODE_PREFIXES[number * 7 % 10]}{number * 2654435761 % 2**32:08x}{number}",)
    if table is WORDS:
        return (word_of(number),)
    if table is TOKENS:
        digest = hashlib.md5(b"%d" % number).hexdigest()
        return (f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}",)
    if table is ENTRIES:
        return (number * 1_000_003 - 2**40,)
    return (number,)


def word_of(number: int) -> str:
    """Digit 9 is the word of digit 8 in the other case: one key to a case-insensitive database, two to others."""
    base = number - 1 if number % 10 == 9 else number
    word = f"{_WORD_PREFIXES[base * 3 % 10]} {base * 40503 % 9973:x} k{base}"
    return word.swapcase() if number % 10 == 9 else word


def parent_of(child: int, turn: int = 0) -> int:
    """A parent in the child's own block: digit 1, 2 or 3."""
    return child // 10 * 10 + 1 + (child + turn) % 3


# ---- values

_NASTY = (
    "", " ", "plain", "it's", 'say "hi"', "back\\slash", "\\N", "tab\there", "line\nbreak", "cr\r\n", "{}",
    "100% %s %(a)s", "semi;colon -- no /* comment */", "Größe", "naïve café", "日本語テキスト", "😀👩\u200d👧",
    "e\u0301", "\u200f\u202eabc", "\x01\x1f\x7f", "NULL", "null", "trailing  ", "\ufeffbom",
    "__debezium_unavailable_value",
    "'; DROP TABLE accounts; --", "$$x$$", "`q`",
)  # fmt: skip


def _text(draw: Random) -> str:
    return f"{draw.choice(_NASTY)}{draw.randrange(1000)}{draw.choice(_NASTY)}" * draw.choice((1, 1, 1, 4))


def _short(draw: Random) -> str:
    return f"{draw.choice(_NASTY)[:24]}{draw.randrange(10**6)}"


def _decimal(draw: Random) -> str:
    cents = draw.randrange(10 ** draw.choice((3, 8, 17)))
    return f"{draw.choice(('', '-'))}{cents // 10000}.{cents % 10000:04d}"


def _number(draw: Random) -> str:
    whole, part = draw.randrange(10 ** draw.choice((1, 9, 20))), draw.randrange(10**10)
    return f"{draw.choice(('', '-'))}{whole}{draw.choice(('', f'.{part:010d}', '.5'))}"


def _day(draw: Random, first: int, last: int) -> str:
    return f"{draw.randrange(first, last):04d}-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}"


def _clock(draw: Random) -> str:
    micros = draw.choice((0, 1, 999999, draw.randrange(10**6)))
    return f"{draw.randrange(24):02d}:{draw.randrange(60):02d}:{draw.randrange(60):02d}.{micros:06d}"


def _json(draw: Random) -> str:
    """Members in the order of their lengths, as the engines that keep JSON in a form of their own have them."""
    nasty = draw.choice(_NASTY).replace("\x7f", "").replace("\x01\x1f", "")
    value = {
        "a": draw.randrange(-(2**40), 2**40),
        "bb": [1, "two", None, draw.random() < 0.5, nasty],
        "ccc": {"x": {}, "yy": []},
        "text": nasty,
    }
    return json.dumps(value, ensure_ascii=False)


_MAKE: dict[Word, Callable[[Random], Value]] = {
    "int": lambda draw: draw.randrange(-(2**31), 2**31),
    "big": lambda draw: draw.randrange(-(2**63), 2**63),
    "small": lambda draw: draw.randrange(-(2**15), 2**15),
    "bool": lambda draw: draw.random() < 0.5,
    "decimal": _decimal,
    "number": _number,
    "float": lambda draw: draw.randrange(-(2**30), 2**30) / 8,
    "date": lambda draw: _day(draw, 1901, 2155),
    "stamp": lambda draw: f"{_day(draw, 1600, 2400)} {_clock(draw)}",
    "instant": lambda draw: f"{_day(draw, 1971, 2037)} {_clock(draw)}",
    "time": _clock,
    "json": _json,
    "bytes": lambda draw: draw.randbytes(draw.randrange(40)),
    "text": _text,
    "short": _short,
    "uuid": lambda draw: key_of(TOKENS, draw.randrange(2**40))[0],
    "external": lambda draw: draw.randbytes(45).hex() * 100,
}


def value_of(column: Column, draw: Random) -> Value:
    """A random value that every engine can hold; NULL now and then where it may be."""
    if column.nullable and draw.random() < 0.08:
        return None
    return _MAKE[column.word](draw)


def row_of(table: Table, number: int, version: int, draw: Random) -> list[Value]:
    """A new row, its values in the order of the columns."""
    key = dict(zip(table.identity, key_of(table, number), strict=True))
    fixed: dict[str, Value] = {**key, "version": version}
    if table is SEATS:
        fixed["seat"] = number
    elif table is CHILDREN:
        fixed["parent"] = parent_of(number)
    elif table is COUNTERS:
        fixed["n"] = 0
    return [fixed[c.name] if c.name in fixed else value_of(c, draw) for c in table.columns]
