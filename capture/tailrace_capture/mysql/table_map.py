"""TABLE_MAP: how the rows that follow are laid out, with the optional metadata of binlog_row_metadata=FULL.

Pure: bytes to a value. Less metadata leaves columns without names and labels, none at all (MySQL 5.7, MariaDB's NO_LOG)
also without signs and collations; the rest must then come from a description (`plan.completed`).
Format: MySQL source documentation, `Table_map_event`, "optional metadata fields".
"""

from __future__ import annotations

from dataclasses import dataclass

from tailrace_capture.mysql.binlog import Reader, corrupt, unknown
from tailrace_schemas.table import TableId

# Column types as the server's `enum_field_types` numbers them.
T_DECIMAL, T_TINY, T_SHORT, T_LONG, T_FLOAT, T_DOUBLE, T_NULL, T_TIMESTAMP = 0, 1, 2, 3, 4, 5, 6, 7
T_LONGLONG, T_INT24, T_DATE, T_TIME, T_DATETIME, T_YEAR, T_NEWDATE, T_VARCHAR, T_BIT = 8, 9, 10, 11, 12, 13, 14, 15, 16
T_TIMESTAMP2, T_DATETIME2, T_TIME2 = 17, 18, 19
T_BLOB_COMPRESSED, T_VARCHAR_COMPRESSED = 140, 141
T_VECTOR, T_JSON, T_NEWDECIMAL, T_ENUM, T_SET = 242, 245, 246, 247, 248
T_BLOB, T_VAR_STRING, T_STRING, T_GEOMETRY = 252, 253, 254, 255

NUMERIC = frozenset({T_TINY, T_SHORT, T_INT24, T_LONG, T_LONGLONG, T_FLOAT, T_DOUBLE, T_NEWDECIMAL, T_YEAR})
# MySQL 9 counts VECTOR among them, with the binary character set.
CHARACTER = frozenset({T_STRING, T_VAR_STRING, T_VARCHAR, T_BLOB, T_BLOB_COMPRESSED, T_VARCHAR_COMPRESSED, T_VECTOR})
BINARY_COLLATION = 63

GEOMETRIES = (
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
)


@dataclass(frozen=True, slots=True)
class MapColumn:
    """`type`: ENUM and SET resolved from STRING. `size`: by type: bytes of a string, bytes of a length, fractional
    digits, bits; `precision`, `scale` of a decimal. `collation`: id, 0 where the type has none."""

    name: str
    type: int
    size: int
    precision: int
    scale: int
    nullable: bool
    unsigned: bool
    collation: int
    labels: tuple[bytes, ...]
    geometry: str


@dataclass(frozen=True, slots=True)
class TableMap:
    """`key`: (index of the column, characters of it that are in the key; 0 = whole). `named`: metadata is FULL;
    `signed`: it says which numbers are unsigned."""

    table: TableId
    columns: tuple[MapColumn, ...]
    key: tuple[tuple[int, int], ...]
    named: bool = True
    signed: bool = True


def table_name(body: bytes) -> TableId:
    """The name alone; `body` as in `parse_table_map`."""
    reader = Reader(body, 8)
    schema = reader.take(reader.uint(1))
    reader.take(1)
    name = reader.take(reader.uint(1))
    return TableId(schema.decode(), name.decode())


def parse_table_map(body: bytes, mariadb: bool) -> TableMap:
    """`body`: from the table id on, without checksum. `mariadb`: who wrote it.

    Raises:
        StopError: something is not known, or the bytes are not a table map.
    """
    table = table_name(body)
    reader = Reader(body, 8 + 1 + body[8] + 1)
    reader.take(reader.uint(1) + 1)
    count = reader.packed()
    types = reader.take(count)
    metadata = Reader(reader.take(reader.packed()))
    forms = [_form(type_, metadata) for type_ in types]
    if metadata.left:
        raise corrupt("a table map with more metadata than columns")
    null_bits = reader.take((count + 7) // 8)
    optional = _Optional([form[0] for form in forms], reader, mariadb)
    named = bool(optional.names)
    if named and len(optional.names) != count:
        raise corrupt("a table map that names another number of columns than it has")
    columns = tuple(
        MapColumn(
            optional.names[i] if named else "",
            forms[i][0],
            forms[i][1],
            forms[i][2],
            forms[i][3],
            bool(null_bits[i >> 3] >> (i & 7) & 1),
            i in optional.unsigned,
            optional.collations.get(i, 0),
            optional.labels.get(i, ()),
            optional.geometries.get(i, ""),
        )
        for i in range(count)
    )
    return TableMap(table, columns, tuple(optional.key), named, optional.signed)


def _form(type_: int, metadata: Reader) -> tuple[int, int, int, int]:
    """(type, size, precision, scale) of one column from the metadata block."""
    if type_ in (
        T_TINY,
        T_SHORT,
        T_INT24,
        T_LONG,
        T_LONGLONG,
        T_DATE,
        T_NEWDATE,
        T_YEAR,
        T_TIMESTAMP,
        T_DATETIME,
        T_TIME,
    ):
        return type_, 0, 0, 0
    if type_ in (T_TIMESTAMP2, T_DATETIME2, T_TIME2):
        digits = metadata.uint(1)
        if digits > 6:
            raise corrupt("a time with more than 6 fractional digits")
        return type_, digits, 0, 0
    if type_ in (T_FLOAT, T_DOUBLE, T_BLOB, T_BLOB_COMPRESSED, T_JSON, T_GEOMETRY, T_VECTOR):
        return type_, metadata.uint(1), 0, 0
    if type_ in (T_VARCHAR, T_VAR_STRING, T_VARCHAR_COMPRESSED):
        return type_, metadata.uint(2), 0, 0
    if type_ == T_NEWDECIMAL:
        precision, scale = metadata.uint(1), metadata.uint(1)
        if not (scale <= precision <= 65 and precision):
            raise corrupt("a decimal of impossible precision")
        return type_, 0, precision, scale
    if type_ == T_BIT:
        bits, whole = metadata.uint(1), metadata.uint(1)
        return type_, whole * 8 + bits, 0, 0
    if type_ in (T_STRING, T_ENUM, T_SET):
        first, second = metadata.uint(1), metadata.uint(1)
        if first in (T_ENUM, T_SET):
            return first, second, 0, 0
        # Lengths above 255 borrow two bits of the type byte, inverted (MySQL source, Field_string::do_save…).
        return T_STRING, second | ((first & 0x30) ^ 0x30) << 4, 0, 0
    raise unknown(f"a column of type {type_}")


class _Optional:
    """The optional metadata, by index of the column. Each kind speaks only of the columns of its types, in order."""

    def __init__(self, types: list[int], reader: Reader, mariadb: bool) -> None:
        self.types = types
        # MariaDB gives geometries the binary character set (Field_geom::binlog_type_info), MySQL none.
        self.character = CHARACTER | {T_GEOMETRY} if mariadb else CHARACTER
        self.names: list[str] = []
        self.unsigned: set[int] = set()
        self.signed = False
        self.collations: dict[int, int] = {}
        self.labels: dict[int, tuple[bytes, ...]] = {}
        self.geometries: dict[int, str] = {}
        self.key: list[tuple[int, int]] = []
        while reader.left:
            kind = reader.uint(1)
            self._read(kind, Reader(reader.take(reader.packed())))

    def _of(self, kinds: frozenset[int]) -> list[int]:
        return [i for i, type_ in enumerate(self.types) if type_ in kinds]

    def _read(self, kind: int, field: Reader) -> None:
        match kind:
            case 1:
                bits = field.take(field.left)
                self.signed = True
                # The first column is the highest bit.
                self.unsigned = {c for n, c in enumerate(self._of(NUMERIC)) if _bit(bits, n)}
            case 2:
                self._default_collation(self._of(self.character), field)
            case 3:
                self._collation_each(self._of(self.character), field)
            case 4:
                while field.left:
                    self.names.append(field.take(field.packed()).decode())
            case 5:
                self._label_lists(T_SET, field)
            case 6:
                self._label_lists(T_ENUM, field)
            case 7:
                for column in self._of(frozenset({T_GEOMETRY})):
                    self.geometries[column] = _geometry(field.packed())
            case 8:
                while field.left:
                    self.key.append((self._column(field.packed()), 0))
            case 9:
                while field.left:
                    self.key.append((self._column(field.packed()), field.packed()))
            case 10:
                self._default_collation(self._of(frozenset({T_ENUM, T_SET})), field)
            case 11:
                self._collation_each(self._of(frozenset({T_ENUM, T_SET})), field)
            case 12 | 13:  # column visibility, dimensions of a vector: nothing a row's bytes depend on
                pass
            case _:
                raise unknown(f"a table map with metadata of kind {kind}")

    def _column(self, index: int) -> int:
        if index >= len(self.types):
            raise corrupt("a table map whose key names a column that is not there")
        return index

    def _default_collation(self, columns: list[int], field: Reader) -> None:
        default = field.packed()
        self.collations.update(dict.fromkeys(columns, default))
        while field.left:
            place, collation = field.packed(), field.packed()
            if place >= len(columns):
                raise corrupt("a table map with a collation for a column that is not there")
            self.collations[columns[place]] = collation

    def _collation_each(self, columns: list[int], field: Reader) -> None:
        for column in columns:
            self.collations[column] = field.packed()

    def _label_lists(self, type_: int, field: Reader) -> None:
        for column in self._of(frozenset({type_})):
            self.labels[column] = tuple(field.take(field.packed()) for _ in range(field.packed()))


def _bit(bits: bytes, n: int) -> bool:
    if n >> 3 >= len(bits):
        raise corrupt("a table map with too few sign bits")
    return bool(bits[n >> 3] >> (7 - (n & 7)) & 1)


def _geometry(number: int) -> str:
    if number >= len(GEOMETRIES):
        raise unknown(f"geometry type {number}")
    return GEOMETRIES[number]
