"""Column changes that keep every value as it is, so that a target can follow them by itself.

Any other change of a type converts values at the source by rules (SQL mode, time zone, character set) that a target
does not share, and no event shows the result. Source: MySQL manual, "ALTER TABLE", "Changing the column data type".
Pure.
"""

from __future__ import annotations

import re

from tailrace_schemas.table import Column

_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_TEXTS = ("tinytext", "text", "mediumtext", "longtext")
_BLOBS = ("tinyblob", "blob", "mediumblob", "longblob")
_GROWING = {"varchar", "char", "varbinary", "datetime", "timestamp", "time"}
_TYPE = re.compile(r"(\w+)(?:\((\d+)(?:,(\d+))?\))?(.*)")


def keeps_values(old: Column, new: Column) -> bool:
    """Whether every value of `old` is the same value in `new`."""
    if old.type.labels or new.type.labels:
        same_kind = old.type.kind == new.type.kind and old.collation == new.collation
        return same_kind and new.type.labels[: len(old.type.labels)] == old.type.labels
    if old.native == new.native:
        return old.collation == new.collation
    before, after = _TYPE.fullmatch(old.native.lower()), _TYPE.fullmatch(new.native.lower())
    if before is None or after is None:
        return False
    word, word_now = before[1], after[1]
    if word in _INTEGERS and word_now in _INTEGERS:
        return _integers(word, "unsigned" in before[4], word_now, "unsigned" in after[4])
    if old.collation != new.collation or before[4].strip() != after[4].strip():
        return False
    for family in (_TEXTS, _BLOBS):
        if word in family and word_now in family:
            return family.index(word) <= family.index(word_now)
    if word == word_now == "decimal":
        digits, digits_now = int(before[2] or 10), int(after[2] or 10)
        scale, scale_now = int(before[3] or 0), int(after[3] or 0)
        return scale_now >= scale and digits_now - scale_now >= digits - scale
    return word == word_now and word in _GROWING and int(after[2] or 0) >= int(before[2] or 0)


def _integers(word: str, unsigned: bool, word_now: str, unsigned_now: bool) -> bool:
    size, size_now = _INTEGERS.index(word), _INTEGERS.index(word_now)
    if unsigned == unsigned_now:
        return size_now >= size
    return unsigned and size_now > size
