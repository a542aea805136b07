"""Tables as Postgres' catalogue describes them, and native types to logical types.

`native` is format_type()'s spelling. A domain is its base type (typmod kept). Types without a row in `_KINDS` are
carried in their text form. Generated columns are left out: pgoutput does not send them before PostgreSQL 18.
The mapping is documented in TYPES.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql

from tailrace_capture.postgres.layout import Layout
from tailrace_schemas import types
from tailrace_schemas.errors import TableStopError
from tailrace_schemas.table import Column, ForeignKey, TableId, TableSchema
from tailrace_schemas.types import Kind, LogicalType

_KINDS: dict[str, Kind] = {
    "bool": "boolean",
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "oid": "int64",
    "float4": "float32",
    "float8": "float64",
    "text": "string",
    "varchar": "string",
    "bpchar": "string",
    "char": "string",
    "name": "string",
    "citext": "string",
    "bytea": "bytes",
    "date": "date",
    "timetz": "time_tz",
    "interval": "interval",
    "json": "json",
    "jsonb": "json",
    "xml": "xml",
    "uuid": "uuid",
}
_WITH_FRACTION: dict[str, Kind] = {"time": "time", "timestamp": "timestamp", "timestamptz": "timestamp_tz"}
Subject = Literal["attributes", "keys", "foreign", "files", "numbers", "missing"]
CatalogueRows = Mapping[Subject, Sequence[Sequence[Any]]]
MONEY = LogicalType("decimal", precision=19, scale=2)


@dataclass(frozen=True, slots=True)
class NativeType:
    """A type after domains are resolved. `labels`: of an enum; `element`: of an array."""

    name: str
    typmod: int
    labels: tuple[str, ...] = ()
    element: NativeType | None = None


def logical_type(native: NativeType) -> LogicalType:
    """The logical type of a native one (TYPES.md)."""
    name, typmod = native.name, native.typmod
    if native.labels:
        return LogicalType("enum", labels=native.labels)
    if native.element is not None:
        return types.array(logical_type(native.element))
    if name == "numeric":
        return _numeric(typmod)
    if name == "money":
        return MONEY
    if name in _WITH_FRACTION:
        return LogicalType(_WITH_FRACTION[name], precision=6 if typmod < 0 else typmod)
    if name == "bit":
        return types.BOOLEAN if typmod in (-1, 1) else LogicalType("bits", length=typmod)
    if name == "varbit":
        return LogicalType("bits", length=2**31 - 1 if typmod < 0 else typmod, varying=True)
    if name in ("varchar", "bpchar") and typmod > 4:
        return LogicalType("string", length=typmod - 4)
    if name in ("vector", "halfvec"):
        return LogicalType("vector", item=types.FLOAT64)
    return LogicalType(_KINDS.get(name, "text"))


def _numeric(typmod: int) -> LogicalType:
    """typmod of numeric: ((precision << 16) | (scale & 0x7ff)) + 4 (src/backend/utils/adt/numeric.c)."""
    if typmod < 4:
        return types.NUMBER
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, (typmod - 4) & 0x7FF
    scale = scale - 0x800 if scale > 0x3FF else scale
    if scale < 0 or scale > precision:
        return types.NUMBER
    return types.decimal(precision, scale)


_ATTRIBUTES = """
SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
  CASE WHEN l.collname IS NULL OR NOT l.collisdeterministic THEN l.collname
       WHEN l.collname IN ('C', 'POSIX', 'ucs_basic') OR (l.collname = 'default' AND
            (SELECT datcollate IN ('C', 'POSIX') FROM pg_database WHERE datname = current_database())) THEN 'C'
       ELSE l.collname END
FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attrelid, a.attnum
"""

# A domain is followed to its base type; the first typmod met on the way holds. Only base types count by name: a
# composite may be called `date` like one of the server's own.
_TYPES = """
WITH RECURSIVE wanted AS (SELECT DISTINCT * FROM unnest(%s::oid[], %s::int[]) w(oid, typmod)),
base(oid, typmod, root, mod) AS (
  SELECT oid, typmod, oid, typmod FROM wanted
  UNION ALL
  SELECT b.oid, b.typmod, d.typbasetype, CASE WHEN b.mod >= 0 THEN b.mod ELSE d.typtypmod END
  FROM base b JOIN pg_type d ON d.oid = b.root WHERE d.typtype = 'd'
)
SELECT b.oid, b.typmod, format_type(b.oid, b.typmod),
  CASE t.typtype WHEN 'b' THEN t.typname ELSE '' END, b.mod,
  CASE t.typtype WHEN 'e' THEN (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum
                               WHERE enumtypid = t.oid) END,
  CASE WHEN e.typtype = 'b' THEN e.typname WHEN e.oid IS NOT NULL THEN '' END,
  CASE e.typtype WHEN 'e' THEN (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum
                               WHERE enumtypid = e.oid) END
FROM base b JOIN pg_type t ON t.oid = b.root AND t.typtype <> 'd'
LEFT JOIN pg_type e ON t.typelem = e.oid AND t.typcategory = 'A' AND t.typlen = -1
"""

# Replica identity index columns where the owner chose one, else the primary key, else the first unique index whose
# columns are all NOT NULL (indexes on expressions and partial ones do not count).
_KEYS = """
SELECT i.indrelid, array_agg(a.attname::text ORDER BY k.n)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n) ON k.n <= i.indnkeyatts
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY(%(oids)s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indrelid, i.indexrelid, i.indisprimary, i.indisreplident, c.relreplident
HAVING bool_and(a.attnotnull AND a.attgenerated = '')
ORDER BY i.indrelid, (c.relreplident = 'i' AND i.indisreplident) DESC, i.indisprimary DESC, i.indexrelid
"""

_FOREIGN_KEYS = """
SELECT f.conrelid, f.conname, pn.nspname, p.relname, f.confdeltype, f.confupdtype,
  (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY k(attnum, n)
   JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
  (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY k(attnum, n)
   JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum)
FROM pg_constraint f JOIN pg_class p ON p.oid = f.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE f.contype = 'f' AND f.conrelid = ANY(%(oids)s) AND f.conparentid = 0 ORDER BY f.conrelid, f.conname
"""
_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}

# A partition root has no file of its own; what its leaves hold counts.
_LEAVES = """
WITH leaves (root, leaf, node) AS (
  SELECT oid, oid, relfilenode FROM pg_class WHERE oid = ANY(%(oids)s) AND relkind = 'r'
  UNION ALL
  SELECT c.oid, l.oid, l.relfilenode FROM pg_class c CROSS JOIN LATERAL pg_partition_tree(c.oid) t
  JOIN pg_class l ON l.oid = t.relid WHERE c.oid = ANY(%(oids)s) AND c.relkind = 'p' AND l.relkind = 'r'
)
"""

# A leaf was attached, with the rows it had, when one of the links between it and its root is younger than itself; when
# both are of one transaction, CREATE TABLE … PARTITION OF makes the link two commands later, ATTACH more (14 to 18).
# One that is still without a page brought no rows.
_FILES = (
    _LEAVES
    + """
SELECT root, json_agg(json_build_array(leaf::bigint, node::bigint)), bool_or(leaf <> root),
  coalesce(array_agg(leaf::bigint) FILTER (WHERE leaf <> root AND pg_relation_size(leaf) > 0 AND EXISTS (
    SELECT FROM pg_partition_ancestors(leaf) a(step) JOIN pg_inherits i ON i.inhrelid = a.step
    JOIN pg_type t ON t.typrelid = leaf
    WHERE age(i.xmin) < age(t.xmin)
      OR (i.xmin = t.xmin AND i.cmin::text::bigint - t.cmin::text::bigint > 2))), '{}')
FROM leaves GROUP BY root
"""
)

_NUMBERS = """
SELECT c.oid, c.relnatts, (
  SELECT json_agg(json_build_array(attname, attnum, xmin::text::bigint)) FROM pg_attribute
  WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
FROM pg_class c WHERE c.oid = ANY(%(oids)s)
"""

_MISSING = (
    _LEAVES
    + """
SELECT root, attname, bool_and(atthasmissing), array_agg(DISTINCT (attmissingval::text::text[])[1])
FROM leaves JOIN pg_attribute ON attrelid = leaf AND attnum > 0 AND NOT attisdropped
GROUP BY 1, 2 HAVING bool_or(atthasmissing)
"""
)

# What describes tables, by subject; each query's one parameter is their oids.
QUERIES: dict[Subject, LiteralString] = {
    "attributes": _ATTRIBUTES, "keys": _KEYS, "foreign": _FOREIGN_KEYS,
    "files": _FILES, "numbers": _NUMBERS, "missing": _MISSING,
}  # fmt: skip

# Ordinary tables and partition roots; a partition is published under its root's name.
TABLES = """
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'tailrace') AND n.nspname !~ '^pg_temp'
ORDER BY n.nspname, c.relname
"""


Rows = psycopg.Connection[tuple[Any, ...]]
Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Described:
    """A table's schema with what the stream speaks of: its oid, and (name, type oid, typmod) of each column as a
    Relation message carries them."""

    oid: int
    schema: TableSchema
    signature: Signature
    layout: Layout


def type_sql(native: str) -> sql.SQL:
    """A type's spelling by format_type(), quoted by the server where it must be, for use in a statement."""
    return sql.SQL(native)  # pyright: ignore[reportArgumentType]


def all_tables(connection: Rows) -> list[tuple[int, TableId]]:
    """Oid and name of every table of the database that can be captured."""
    return [(oid, TableId(schema, name)) for oid, schema, name in connection.execute(TABLES)]


def describe(connection: Rows, tables: Iterable[tuple[int, TableId]]) -> list[Described]:
    """Descriptions of the tables that still exist, in the given order."""
    wanted = dict(tables)
    words = {"oids": list(wanted)}
    rows: CatalogueRows = {about: connection.execute(query, words).fetchall() for about, query in QUERIES.items()}
    return described(connection, wanted, rows)


def described(connection: Rows, wanted: Mapping[int, TableId], rows: CatalogueRows) -> list[Described]:
    """As `describe`, by the rows that its queries gave somewhere; types are looked up now.

    Raises:
        TableStopError: a type no longer exists.
    """
    attributes: dict[int, list[tuple[str, int, int, bool, str | None]]] = {}
    for oid, *attribute in rows["attributes"]:
        attributes.setdefault(oid, []).append((attribute[0], attribute[1], attribute[2], attribute[3], attribute[4]))
    natives = native_types(connection, [(a[1], a[2]) for columns in attributes.values() for a in columns])
    keys: dict[int, list[tuple[str, ...]]] = {}
    for oid, names in rows["keys"]:
        keys.setdefault(oid, []).append(tuple(names))
    looks = _layouts(rows)
    foreign: dict[int, list[ForeignKey]] = {}
    for row in rows["foreign"]:
        foreign.setdefault(row[0], []).append(_foreign_key(row))
    out = []
    for oid, table in wanted.items():
        if oid not in attributes or oid not in looks:
            continue
        ranked = keys.get(oid, [])
        _require_types(table, attributes[oid], natives)
        columns = tuple(
            Column(
                name,
                logical_type(natives[type_oid, typmod][1]),
                natives[type_oid, typmod][0],
                not not_null,
                collation=collation,
            )
            for name, type_oid, typmod, not_null, collation in attributes[oid]
        )
        schema = TableSchema(
            engine="postgresql",
            table=table,
            columns=columns,
            key=ranked[0] if ranked else (),
            unique=tuple(ranked[1:]),
            foreign_keys=tuple(foreign.get(oid, ())),
        )
        signature = tuple((name, type_oid, typmod) for name, type_oid, typmod, *_ in attributes[oid])
        out.append(Described(oid, schema, signature, looks[oid]))
    return out


def _require_types(
    table: TableId,
    attributes: list[tuple[str, int, int, bool, str | None]],
    natives: Mapping[tuple[int, int], object],
) -> None:
    for name, type_oid, typmod, *_ in attributes:
        if (type_oid, typmod) not in natives:
            raise type_gone(table, name, type_oid)


def type_gone(table: TableId, column: str, oid: int) -> TableStopError:
    return TableStopError(
        "a row cannot be decoded",
        code="TYPE_GONE",
        table=table,
        column=column,
        detail=f"its type (oid {oid}) no longer exists",
        hint="start again: the table is loaded anew",
    )


def layouts(connection: Rows, oids: list[int], *, missing: bool = True) -> dict[int, Layout]:
    """Of the tables that still exist. `missing` False: without what is only needed once columns have come."""
    words = {"oids": oids}
    rows: dict[Subject, Sequence[Sequence[Any]]] = {"missing": ()}
    for about in ("files", "numbers", "missing") if missing else ("files", "numbers"):
        rows[about] = connection.execute(QUERIES[about], words).fetchall()
    return _layouts(rows)


def _layouts(rows: CatalogueRows) -> dict[int, Layout]:
    constants: dict[int, dict[str, str | None]] = {}
    for oid, name, everywhere, texts in rows["missing"]:
        constants.setdefault(oid, {})[name] = texts[0] if everywhere and len(texts) == 1 else None
    files = {oid: found for oid, *found in rows["files"]}
    out = {}
    for oid, top, columns in rows["numbers"]:
        numbers = {name: (number, version) for name, number, version in columns or ()}
        pairs, partitioned, attached = files.get(oid, ((), False, ()))
        places = frozenset((leaf, node) for leaf, node in pairs)
        out[oid] = Layout(places, numbers, top, constants.get(oid, {}), partitioned, frozenset(attached))
    return out


def describe_relation(connection: Rows, now: TableSchema, signature: Signature, flagged: set[str]) -> TableSchema:
    """The schema of a Relation message that the catalogue no longer agrees with (it was altered again since). What the
    message does not carry is taken from `now` where the column is still there: nullability and key; `flagged` are the
    columns of the replica identity.

    Raises:
        TableStopError: a type of it no longer exists.
    """
    natives = native_types(connection, [(oid, typmod) for _, oid, typmod in signature])
    names = {name for name, _, _ in signature}
    key = now.key if set(now.key) <= names else tuple(name for name, _, _ in signature if name in flagged)
    columns = []
    for name, oid, typmod in signature:
        if (oid, typmod) not in natives:
            raise type_gone(now.table, name, oid)
        native, kind = natives[oid, typmod]
        known = next((column for column in now.columns if column.name == name), None)
        nullable = name not in key and (known is None or known.nullable)
        columns.append(
            Column(name, logical_type(kind), native, nullable, collation=None if known is None else known.collation)
        )
    unique = tuple(group for group in now.unique if names.issuperset(group))
    return TableSchema(now.engine, now.table, tuple(columns), key, unique, now.foreign_keys)


def native_types(connection: Rows, pairs: list[tuple[int, int]]) -> dict[tuple[int, int], tuple[str, NativeType]]:
    """(type oid, typmod) → format_type()'s spelling and the type behind it."""
    out = {}
    parameters = ([oid for oid, _ in pairs], [typmod for _, typmod in pairs])
    for oid, typmod, native, name, mod, labels, element, element_labels in connection.execute(_TYPES, parameters):
        item = None if element is None else NativeType(element, mod, tuple(element_labels or ()))
        out[oid, typmod] = (native, NativeType(name, mod, tuple(labels or ()), item))
    return out


def _foreign_key(row: Sequence[Any]) -> ForeignKey:
    _, name, parent_schema, parent, on_delete, on_update, columns, parent_columns = row
    return ForeignKey(
        name=name,
        columns=tuple(columns),
        parent=TableId(parent_schema, parent),
        parent_columns=tuple(parent_columns),
        on_delete=_ACTIONS[on_delete],
        on_update=_ACTIONS[on_update],
    )
