"""Column types by the server's spelling: `int unsigned`, `varchar(40)`, `enum('a','b')` to a LogicalType; and what a
table map says about a column, in the same spelling. TYPES.md is the table.

Pure. `plain` reduces a catalogue's spelling to what a table map can express, so that the two can be compared: display
widths, ZEROFILL and the digits of FLOAT are not in it, and MariaDB's UUID, INET and VECTOR look like binary columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.binlog import unknown
from tailrace_schemas import types as t
from tailrace_schemas.errors import TableStopError
from tailrace_schemas.types import LogicalType


@dataclass(frozen=True, slots=True)
class Collation:
    name: str
    charset: str
    bytes_per_character: int


@dataclass(frozen=True, slots=True)
class Charsets:
    """The server's collations by id, and decoders for character sets that are not UTF-8 at the source, by name."""

    collations: dict[int, Collation]
    decoders: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)

    def of(self, collation: int) -> Collation:
        """
        Raises:
            StopError: the server has no such collation (code BINLOG_UNKNOWN).
        """
        found = self.collations.get(collation)
        if found is None:
            raise unknown(f"collation {collation}")
        return found


UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4", "ascii"})

_INTEGERS: dict[str, tuple[LogicalType, LogicalType]] = {
    "tinyint": (t.INT8, t.INT16),
    "smallint": (t.INT16, t.INT32),
    "mediumint": (t.INT32, t.INT32),
    "int": (t.INT32, t.INT64),
    "bigint": (t.INT64, t.UINT64),
}
_SIMPLE: dict[str, LogicalType] = {
    "float": t.FLOAT32,
    "double": t.FLOAT64,
    "date": t.DATE,
    "year": t.YEAR,
    "json": t.JSON,
    "uuid": t.UUID,
    "inet4": t.TEXT,
    "inet6": t.TEXT,
    "vector": LogicalType("vector", item=t.FLOAT32),
    **dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), t.STRING),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), t.BYTES),
    **dict.fromkeys(tm.GEOMETRIES, t.GEOMETRY),
}
_NAME = re.compile(r"([a-z0-9]+)(?:\((.*)\))?((?: [a-z]+)*)\Z", re.DOTALL)


def _split(native: str) -> tuple[str, str, str]:
    """Name, what stands in parentheses, attributes. MariaDB's comments (`/* mariadb-5.3 */`) are not part of it."""
    text = re.sub(r"\s*/\*.*?\*/", "", native) if not native.startswith(("enum", "set")) else native
    match = _NAME.match(text)
    if match is None:
        return native, "", ""
    name = match[1]
    return {"geomcollection": "geometrycollection", "integer": "int"}.get(name, name), match[2] or "", match[3]


def logical_type(native: str) -> LogicalType | None:
    """The type of a column by its spelling; None for a type that is not known."""
    name, inside, attributes = _split(native)
    if name in _INTEGERS:
        return _INTEGERS[name]["unsigned" in attributes]
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name == "decimal":
        precision, _, scale = (inside or "10,0").partition(",")
        return t.decimal(int(precision), int(scale or 0))
    if name in ("char", "varchar"):
        return LogicalType("string", length=int(inside or 1))
    if name in ("binary", "varbinary"):
        return LogicalType("bytes", length=int(inside or 1))
    if name == "bit":
        return t.BOOLEAN if inside in ("", "1") else LogicalType("bits", length=int(inside))
    if name in ("enum", "set"):
        return LogicalType("enum" if name == "enum" else "set", labels=labels_of(inside))
    if name in ("time", "datetime", "timestamp"):
        digits = int(inside or 0)
        kinds = {"time": LogicalType("duration", precision=digits), "datetime": t.timestamp(digits)}
        return kinds.get(name, t.timestamp_tz(digits))
    return None


_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPES = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}


def labels_of(inside: str) -> tuple[str, ...]:
    """The labels of `'a','it''s'`, as information_schema writes them."""

    def plain(text: str) -> str:
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text.replace("''", "'"), flags=re.DOTALL)

    return tuple(plain(match[1]) for match in _LABEL.finditer(inside))


def quote_labels(labels: tuple[str, ...]) -> str:
    return ",".join("'" + label.replace("\\", "\\\\").replace("'", "''") + "'" for label in labels)


def plain(native: str) -> str:
    """The spelling reduced to what a table map can say."""
    name, inside, attributes = _split(native)
    if name in _INTEGERS:
        return name + (" unsigned" if "unsigned" in attributes else "")
    if name in ("float", "double", "decimal"):
        unsigned = " unsigned" if "unsigned" in attributes else ""
        return (f"decimal({inside or '10,0'})" if name == "decimal" else name) + unsigned
    if name in ("enum", "set"):
        return f"{name}({quote_labels(labels_of(inside))})"
    if name in ("time", "datetime", "timestamp"):
        return f"{name}({inside})" if inside not in ("", "0") else name
    if name in ("char", "binary", "bit"):
        return f"{name}({inside or 1})"
    if name == "vector":
        return name
    return f"{name}({inside})" if name in ("varchar", "varbinary") else name


def mariadb_plain(native: str) -> str:
    """As `plain`, for MariaDB, whose table maps show these types by their storage."""
    name, inside, _ = _split(native)
    storage = {"uuid": "binary(16)", "inet6": "binary(16)", "inet4": "binary(4)"}
    if name == "vector":
        return f"varbinary({4 * int(inside)})"
    return storage.get(name) or plain(native)


_BLOBS = {1: "tiny", 2: "", 3: "medium", 4: "long"}
_FIXED = {
    tm.T_TINY: "tinyint",
    tm.T_SHORT: "smallint",
    tm.T_INT24: "mediumint",
    tm.T_LONG: "int",
    tm.T_LONGLONG: "bigint",
    tm.T_FLOAT: "float",
    tm.T_DOUBLE: "double",
    tm.T_DATE: "date",
    tm.T_NEWDATE: "date",
    tm.T_YEAR: "year",
    tm.T_JSON: "json",
    tm.T_VECTOR: "vector",
    tm.T_TIME: "time",
    tm.T_DATETIME: "datetime",
    tm.T_TIMESTAMP: "timestamp",
}
_TIMES = {tm.T_TIME2: "time", tm.T_DATETIME2: "datetime", tm.T_TIMESTAMP2: "timestamp"}


def native_of(column: tm.MapColumn, charsets: Charsets) -> str:
    """What a table map says about a column, spelled as `plain` spells it.

    Raises:
        StopError: a type or collation that is not known.
    """
    kind = column.type
    if kind in _FIXED:
        signed = kind not in tm.NUMERIC or kind == tm.T_YEAR or not column.unsigned
        return _FIXED[kind] + ("" if signed else " unsigned")
    if kind in _TIMES:
        return _TIMES[kind] + (f"({column.size})" if column.size else "")
    if kind == tm.T_NEWDECIMAL:
        return f"decimal({column.precision},{column.scale})" + (" unsigned" if column.unsigned else "")
    if kind == tm.T_BIT:
        return f"bit({column.size})"
    if kind == tm.T_GEOMETRY:
        return column.geometry or "geometry"
    if kind in (tm.T_ENUM, tm.T_SET):
        labels = label_texts(column, charsets)
        return f"{'enum' if kind == tm.T_ENUM else 'set'}({quote_labels(labels)})"
    binary = column.collation == tm.BINARY_COLLATION
    if kind == tm.T_BLOB:
        return f"{_BLOBS[column.size]}{'blob' if binary else 'text'}"
    if kind in (tm.T_STRING, tm.T_VARCHAR, tm.T_VAR_STRING):
        name = ("binary" if binary else "char") if kind == tm.T_STRING else ("varbinary" if binary else "varchar")
        width = 1 if binary else charsets.of(column.collation).bytes_per_character
        return f"{name}({column.size // width})"
    raise unknown(f"a column of type {kind}")


def label_texts(column: tm.MapColumn, charsets: Charsets) -> tuple[str, ...]:
    if not column.labels:
        return ()
    decode = decoder(column, charsets)
    return tuple((label if decode is None else decode(label)).decode() for label in column.labels)


def decoder(column: tm.MapColumn, charsets: Charsets) -> Callable[[bytes], bytes] | None:
    """From the column's character set to UTF-8; None where it is UTF-8, or bytes.

    Raises:
        TableStopError: this version cannot decode the character set (code CHARSET).
    """
    if column.collation == tm.BINARY_COLLATION:
        return None
    charset = charsets.of(column.collation).charset
    if charset in UTF8:
        return None
    found = charsets.decoders.get(charset) or codec_decoder(charset)
    if found is None:
        raise TableStopError(
            f'column "{column.name}" has the character set {charset}, which cannot be decoded',
            code="CHARSET",
            column=column.name,
            hint=f"change the column to utf8mb4, or leave the table out (character set {charset})",
        )
    return found


# Multi-byte character sets, compared with the servers' own mapping code by code; single-byte ones are asked from the
# server (`catalog.read_charsets`). The second part turns characters that Python maps in another way.
_FULL_BACKSLASH = {0xFF3C: "\\"}
_CODECS: dict[str, tuple[str, dict[int, str]]] = {
    "big5": ("big5", {}),
    "ujis": ("euc_jp", _FULL_BACKSLASH),
    "sjis": ("shift_jis", _FULL_BACKSLASH),
    "euckr": ("cp949", {}),
    "gb2312": ("gb2312", {}),
    "gbk": ("gbk", {}),
    "ucs2": ("utf-16-be", {}),
    "utf16": ("utf-16-be", {}),
    "utf16le": ("utf-16-le", {}),
    "utf32": ("utf-32-be", {}),
    "cp932": ("cp932", {}),
    "gb18030": ("gb18030", {0xE7C7: "\u1e3f"}),
}


def codec_decoder(charset: str) -> Callable[[bytes], bytes] | None:
    if charset not in _CODECS:
        return None
    name, exceptions = _CODECS[charset]

    def decode(raw: bytes) -> bytes:
        text = raw.decode(name)
        return (text.translate(exceptions) if exceptions else text).encode()

    return decode


def table_decoder(table: list[bytes]) -> Callable[[bytes], bytes]:
    """From a single-byte character set, given the UTF-8 of each of its 256 characters."""

    def decode(raw: bytes) -> bytes:
        return b"".join([table[c] for c in raw])

    return decode
