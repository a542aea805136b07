"""Changes whose new tuple lacks values that were not sent (unchanged TOAST), made whole (rule B8).

From the old tuple, where it is sent: whole with replica identity FULL, else its key. Otherwise by asking the source for
those columns by the new key. What is read so may be newer than the change: a later event of the stream then says so
again. A row that is not there any more is removed or moved by a later event; its columns stay named as unavailable, or
hold the type's zero until then where they are NOT NULL and the row is new under its key.
"""

from __future__ import annotations

import struct

from psycopg import sql

from tailrace_capture.postgres.catalog import Rows, type_sql
from tailrace_schemas.table import TableSchema

Field = tuple[bytes, bytes]  # kind (n, u, t), text

_HEADER = 30  # XLogData header, kind, relation oid


def read_tuple(m: bytes, at: int) -> tuple[list[Field], int]:
    """The fields of a TupleData at `at`, and the place after it."""
    (count,) = struct.unpack_from(">h", m, at)
    at += 2
    fields: list[Field] = []
    for _ in range(count):
        kind = m[at : at + 1]
        at += 1
        text = b""
        if kind == b"t":
            (length,) = struct.unpack_from(">i", m, at)
            text = m[at + 4 : at + 4 + length]
            at += 4 + length
        fields.append((kind, text))
    return fields, at


def write_tuple(fields: list[Field]) -> bytes:
    parts = [struct.pack(">h", len(fields))]
    for kind, text in fields:
        parts.append(kind + struct.pack(">i", len(text)) + text if kind == b"t" else kind)
    return b"".join(parts)


def complete_change(connection: Rows, schema: TableSchema, m: bytes) -> bytes:
    """The XLogData message of an update, with every value that can be had."""
    head, at = m[:_HEADER], _HEADER
    old_kind = b""
    old: list[Field] = []
    if m[at : at + 1] in (b"O", b"K"):
        old_kind = m[at : at + 1]
        old, at = read_tuple(m, at + 1)
    new, _ = read_tuple(m, at + 1)
    if old_kind:
        sent = [old_kind == b"O" or column.name in schema.key for column in schema.columns]
        new = [then if now[0] == b"u" and had else now for now, then, had in zip(new, old, sent, strict=True)]
    missing = [n for n, (kind, _) in enumerate(new) if kind == b"u"]
    if missing:
        new = _ask(connection, schema, new, missing)
    before = old_kind + write_tuple(old) if old_kind else b""
    return head + before + b"N" + write_tuple(new)


def _ask(connection: Rows, schema: TableSchema, new: list[Field], missing: list[int]) -> list[Field]:
    columns = schema.columns
    numbers = {column.name: n for n, column in enumerate(columns)}
    query = sql.SQL("SELECT {} FROM {} WHERE {}").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(columns[n].name)) for n in missing),
        sql.Identifier(*schema.table),
        sql.SQL(" AND ").join(
            sql.SQL("{} = {}::{}").format(
                sql.Identifier(name),
                sql.Literal(new[numbers[name]][1].decode()),
                type_sql(columns[numbers[name]].native),
            )
            for name in schema.key
        ),
    )
    row = connection.execute(query).fetchone() if schema.key else None
    out = list(new)
    for place, n in enumerate(missing):
        if row is not None:
            out[n] = (b"n", b"") if row[place] is None else (b"t", str(row[place]).encode())
    return out
