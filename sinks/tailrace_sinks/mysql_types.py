"""Which type a column gets in a table that the sink creates in MySQL or MariaDB.

The tables of choices are the sources' TYPES.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tailrace_schemas.table import Column, TableSchema
from tailrace_schemas.types import LogicalType

MAX_BITS = 64
MAX_DIGITS, MAX_SCALE = 65, 30
# An index holds 3072 bytes in InnoDB, four for a character; what a composite key shares out.
KEY_CHARACTERS, KEY_BYTES = 768, 3072
MAX_VARCHAR = 16_000

_NATIVE = re.compile(
    r"(tinyint|smallint|mediumint|int|integer|bigint|float|double|double precision|real|decimal|numeric|bit|year|date"
    r"|datetime|timestamp|time|char|varchar|binary|varbinary|tinytext|text|mediumtext|longtext|tinyblob|blob|mediumblob|longblob"
    r"|json|geometry|point|linestring|polygon|multipoint|multilinestring|multipolygon|geometrycollection|geomcollection"
    r"|vector|uuid|inet4|inet6)(\(\d+(,\s*\d+)?\))?(\s+unsigned)?(\s+zerofill)?",
    re.IGNORECASE,
)
_MARIADB_ONLY = ("uuid", "inet4", "inet6")
_LONG = re.compile(r"(varchar|varbinary|(?:tiny|medium|long)?(?:text|blob))\b(?:\((\d+)\))?", re.IGNORECASE)
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")

_PLAIN = {
    "boolean": "tinyint(1)",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
    # What does not fit 35 digits before and 30 behind the point is rejected, never rounded: see mysql_apply.
    "number": f"decimal({MAX_DIGITS},{MAX_SCALE})",
    "date": "date",
    "time_tz": "varchar(32)",
    "interval": "varchar(255)",
    "year": "year",
    "json": "json",
    "xml": "longtext",
    "uuid": "char(36)",
    "array": "json",
    "vector": "json",
    "geometry": "geometry",
}


@dataclass(frozen=True, slots=True)
class Flavor:
    """The target server. `collations`: all it knows."""

    mariadb: bool
    version: tuple[int, ...]
    collations: frozenset[str]

    @property
    def exact_collation(self) -> str:
        """Two texts are equal under it only when their characters are, trailing blanks included."""
        wanted = ("utf8mb4_nopad_bin",) if self.mariadb else ("utf8mb4_0900_bin",)
        return next((name for name in wanted if name in self.collations), "utf8mb4_bin")

    @property
    def has_vector(self) -> bool:
        return self.version >= ((11, 7) if self.mariadb else (9,))


def mysql_type(column: Column, schema: TableSchema, flavor: Flavor) -> str:
    """The source's own type where source and target are of one family and it is known here, else by meaning.

    Every value of the source's type fits and comes back the same, but for the limits named in the README, where a
    value is rejected.
    """
    if schema.engine != "postgresql" and (native := _native(column, flavor)):
        return native + _collate(column, native, flavor)
    in_key = column.name in schema.key or any(column.name in names for names in schema.unique)
    widest = [len(names) for names in (schema.key, *schema.unique) if column.name in names]
    type_ = _by_meaning(column.type, in_key, max(widest, default=1))
    text = type_.startswith(("varchar", "longtext", "char"))
    return f"{type_} CHARACTER SET utf8mb4 COLLATE {flavor.exact_collation}" if text else type_


def key_length(type_: str, parts: int) -> str:
    """`(n)` after a key column of a type too long to be in an index whole, of `parts` columns; else empty.

    As much as an index holds: a source of the family has a shorter one, so that what differs there differs here.
    """
    match = _LONG.match(type_)
    if match is None:
        return ""
    word, declared = match.group(1).lower(), int(match.group(2) or 0)
    most = (KEY_BYTES if word.endswith(("blob", "binary")) else KEY_CHARACTERS) // parts
    if word.startswith("tiny"):
        most = min(most, 255 if word == "tinyblob" else 63)
    return "" if declared and declared <= most else f"({most})"


def _native(column: Column, flavor: Flavor) -> str:
    """The native spelling, rebuilt or checked word by word: it comes from the source and goes into a statement."""
    if column.type.kind in ("enum", "set"):
        labels = ",".join("'" + label.replace("\\", "\\\\").replace("'", "''") + "'" for label in column.type.labels)
        return f"{column.type.kind}({labels})" if labels else ""
    match = _NATIVE.fullmatch(column.native.strip())
    if match is None:
        return ""
    word = match.group(1).lower()
    if word in _MARIADB_ONLY and not flavor.mariadb:
        return ""
    if word == "vector" and not flavor.has_vector:
        return ""
    return column.native.strip().lower()


def _collate(column: Column, native: str, flavor: Flavor) -> str:
    if not native.startswith(_TEXTS):
        return ""
    known = column.collation if column.collation in flavor.collations else None
    return f" COLLATE {known}" if known else f" CHARACTER SET utf8mb4 COLLATE {flavor.exact_collation}"


def _by_meaning(type_: LogicalType, in_key: bool, parts: int) -> str:
    kind = type_.kind
    if kind in ("string", "text", "enum", "set") or (kind == "bits" and type_.varying):
        length = type_.length if kind == "string" else None
        if in_key:
            return f"varchar({min(length or KEY_CHARACTERS, KEY_CHARACTERS // parts)})"
        return f"varchar({length})" if length and length <= MAX_VARCHAR else "longtext"
    if kind == "bytes":
        return f"varbinary({KEY_BYTES // parts // 4 * 3})" if in_key else "longblob"
    if kind == "bits":
        return f"bit({type_.length or 1})" if (type_.length or 1) <= MAX_BITS else "longtext"
    if kind == "decimal":
        return _decimal(type_)
    if kind in ("time", "duration"):
        return f"time({_digits(type_)})"
    if kind in ("timestamp", "timestamp_tz"):
        # Not TIMESTAMP, which ends in 2038. An instant is kept as its UTC time.
        return f"datetime({_digits(type_)})"
    return _PLAIN[kind]


def _decimal(type_: LogicalType) -> str:
    precision, scale = type_.precision or MAX_DIGITS, type_.scale or 0
    if precision > MAX_DIGITS or not 0 <= scale <= min(MAX_SCALE, precision):
        return "longtext"
    return f"decimal({precision},{scale})"


def _digits(type_: LogicalType) -> int:
    return 6 if type_.precision is None else min(type_.precision, 6)
