"""From a table map and a table's description to the row codec's Plan; and from a table map alone to a description.

Pure. A description (from information_schema) is taken only if everything the table map says agrees with it. Where a
table map says little, a description that is known to be of its place in the log completes it.
"""

from __future__ import annotations

from collections.abc import Callable

from tailrace_capture.mysql import images, native
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.native import Charsets
from tailrace_capture.mysql.values import decimal_size
from tailrace_capture.source import TableFeed
from tailrace_log.frames import TopicBuffer
from tailrace_schemas.errors import TABLE_AGAIN, TableStopError
from tailrace_schemas.table import Column, Engine, TableId, TableSchema
from tailrace_schemas.types import LogicalType
from tailrace_schemas.wire import header, text_bytes

Decoder = Callable[[bytes], bytes] | None


def differences(schema: TableSchema, layout: tm.TableMap, charsets: Charsets) -> list[str]:
    """In what the description and the table map differ; empty when rows can be read by both."""
    if len(schema.columns) != len(layout.columns):
        return [f"{len(schema.columns)} columns instead of {len(layout.columns)}"]
    out = []
    for column, seen in zip(schema.columns, layout.columns, strict=True):
        said, shown = _comparable(schema.engine, column.native), native.native_of(seen, charsets)
        if column.name != seen.name:
            out.append(f'column "{column.name}" instead of "{seen.name}"')
        elif said != shown:
            out.append(f'column "{column.name}" {said} instead of {shown}')
        elif column.nullable != seen.nullable:
            out.append(f'column "{column.name}" {"NULL" if column.nullable else "NOT NULL"} instead of the opposite')
        elif _other_collation(column, seen, charsets):
            out.append(f'column "{column.name}" of another collation')
    key = tuple(layout.columns[i].name for i, _ in layout.key)
    if key and key != schema.key:
        out.append("another primary key")
    return out


def _other_collation(column: Column, seen: tm.MapColumn, charsets: Charsets) -> bool:
    if column.collation is None or not seen.collation:
        return False
    if column.type.labels and seen.collation == tm.BINARY_COLLATION:
        return False  # labels that `completed` wrote as UTF-8
    return column.collation != charsets.of(seen.collation).name


def same_rows(one: TableSchema, other: TableSchema) -> bool:
    """Whether rows of both are laid out and read alike; keys and display widths do not matter."""
    return [_read_as(one.engine, column) for column in one.columns] == [
        _read_as(other.engine, column) for column in other.columns
    ]


def _read_as(engine: Engine, column: Column) -> tuple[object, ...]:
    return column.name, _comparable(engine, column.native), column.nullable, column.collation


def completed(layout: tm.TableMap, schema: TableSchema, charsets: Charsets) -> tm.TableMap:
    """The table map with what it leaves unsaid taken from `schema`, the table's description at that place of the log.

    Raises:
        TableStopError: the two contradict each other, or the description cannot say it (code SCHEMA_UNKNOWN).
    """
    if len(layout.columns) == len(schema.columns):
        numbers = {collation.name: number for number, collation in charsets.collations.items()}
        pairs = zip(layout.columns, schema.columns, strict=True)
        columns = tuple(_completed(seen, column, numbers, layout, schema.table) for seen, column in pairs)
        names = [column.name for column in columns]
        key = tuple((names.index(name), 0) for name in schema.key)
        layout = tm.TableMap(layout.table, columns, key)
    wrong = differences(schema, layout, charsets)
    if wrong:
        raise schema_unknown(schema.table, f"the binary log has {wrong[0]}, as the catalogue said")
    return layout


def _completed(
    seen: tm.MapColumn, column: Column, numbers: dict[str, int], layout: tm.TableMap, table: TableId
) -> tm.MapColumn:
    name = "" if column.collation is None else column.collation
    collation = seen.collation or numbers.get(name, 0 if name else tm.BINARY_COLLATION)
    labels = column.type.labels
    if labels:
        _check_labels(seen, column, table)
        collation = tm.BINARY_COLLATION  # and so they are read as the UTF-8 that they are here
    return tm.MapColumn(
        column.name,
        seen.type,
        seen.size,
        seen.precision,
        seen.scale,
        seen.nullable,
        seen.unsigned if layout.signed else " unsigned" in column.native,
        collation,
        tuple(label.encode() for label in labels),
        seen.geometry or column.native,
    )


_WIDER_THAN_CATALOGUE = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030", "uca1400"})


def _check_labels(seen: tm.MapColumn, column: Column, table: TableId) -> None:
    """Numbers stand for labels in rows: the list must be long enough for their width, and whole."""
    count = len(column.type.labels)
    width = (1 if count < 256 else 2) if seen.type == tm.T_ENUM else min((count + 7) // 8, 4) if count <= 32 else 8
    if seen.size != width:
        raise schema_unknown(table, f'column "{column.name}": another number of labels than the catalogue said')
    charset = (column.collation or "").partition("_")[0]
    # The catalogue is utf8mb3: characters outside it are shown as question marks.
    hidden = charset in _WIDER_THAN_CATALOGUE and any("?" in label for label in column.type.labels)
    if hidden or (charset == "binary" and not all(label.isascii() for label in column.type.labels)):
        raise schema_unknown(table, f'column "{column.name}": the catalogue may not show its labels as they are')


def schema_unknown(table: TableId, detail: str) -> TableStopError:
    return TableStopError(
        f"the binary log does not name the columns of {table}, and it is not certain what they were here",
        code="SCHEMA_UNKNOWN",
        table=table,
        detail=detail,
        hint=f"SET GLOBAL binlog_row_metadata = FULL, where the server knows it; {TABLE_AGAIN}",
    )


def _comparable(engine: Engine, spelling: str) -> str:
    return native.mariadb_plain(spelling) if engine == "mariadb" else native.plain(spelling)


def schema_of_map(layout: tm.TableMap, before: TableSchema | None, engine: Engine, charsets: Charsets) -> TableSchema:
    """The description that a table map alone gives. Columns that look as they did before keep their old description
    (it knows more); without a primary key the old key stays if its columns are still there and NOT NULL.

    Raises:
        TableStopError: a type that is not known (code TYPE).
    """
    old = {} if before is None else {column.name: column for column in before.columns}
    columns = tuple(_column(seen, old.get(seen.name), layout.table, engine, charsets) for seen in layout.columns)
    key = tuple(layout.columns[i].name for i, _ in layout.key)
    if not key and before is not None:
        required = {column.name for column in columns if not column.nullable}
        key = before.key if before.key and required.issuperset(before.key) else ()
    foreign_keys = () if before is None else before.foreign_keys
    return TableSchema(engine, layout.table, columns, key, (), foreign_keys)


def _column(seen: tm.MapColumn, old: Column | None, table: TableId, engine: Engine, charsets: Charsets) -> Column:
    shown = native.native_of(seen, charsets)
    collation = charsets.of(seen.collation).name if seen.collation not in (0, tm.BINARY_COLLATION) else None
    if old is not None and _comparable(engine, old.native) == shown:
        return Column(old.name, old.type, old.native, seen.nullable, old.generated, collation)
    type_ = native.logical_type(shown)
    if type_ is None:
        raise unknown_type(table, seen.name, shown)
    return Column(seen.name, type_, shown, seen.nullable, False, collation)


def unknown_type(table: TableId, column: str, spelling: str) -> TableStopError:
    return TableStopError(
        f'column "{column}" of {table} has the type {spelling}, which cannot be captured',
        code="TYPE",
        table=table,
        column=column,
        hint=f"leave the table out with !{table}, or change the column's type",
    )


def plan_of(feed: TableFeed, layout: tm.TableMap, charsets: Charsets) -> images.Plan:
    """How to read rows laid out as `layout`, for the table as `feed` describes it (they agree: `differences`)."""
    schema = feed.schema
    ops, sizes = [], []
    for column, seen in zip(schema.columns, layout.columns, strict=True):
        op, size = _operation(column.type, seen, charsets)
        ops.append(op)
        sizes.append(size)
    labels = [[label.encode() for label in native.label_texts(seen, charsets)] for seen in layout.columns]
    decoders = [
        native.decoder(seen, charsets) if op == images.OP_TEXT_DECODED else None
        for op, seen in zip(ops, layout.columns, strict=True)
    ]
    precisions = bytes(seen.precision for seen in layout.columns)
    scales = bytes(seen.scale for seen in layout.columns)
    return _plan(feed, feed.buffer, bytes(ops), sizes, precisions, scales, labels, decoders)


def text_plan(feed: TableFeed, buffer: TopicBuffer) -> images.Plan:
    """How to read rows of a text result set with the table's columns in order, into `buffer`."""
    columns = feed.schema.columns
    ops, sizes = [], []
    for column in columns:
        op, size = _text_operation(column.type, column.native)
        ops.append(op)
        sizes.append(size)
    n = len(columns)
    return _plan(feed, buffer, bytes(ops), sizes, bytes(n), bytes(n), [[] for _ in columns], [None] * n)


def _plan(
    feed: TableFeed,
    buffer: TopicBuffer,
    ops: bytes,
    sizes: list[int],
    precisions: bytes,
    scales: bytes,
    labels: list[list[bytes]],
    decoders: list[Decoder],
) -> images.Plan:
    schema = feed.schema
    names = [column.name for column in schema.columns]
    plan = images.Plan(
        ops=ops,
        sizes=sizes,
        precisions=precisions,
        scales=scales,
        nullable=bytes(column.nullable for column in schema.columns),
        key=[names.index(name) for name in schema.key],
        names=[name.encode() for name in names],
        labels=labels,
        decoders=decoders,
        buffer=buffer,
        value_header=header(feed.value_id),
        key_header=header(feed.key_id) if schema.key else b"",
        source_db=text_bytes(schema.table.schema),
        source_table=text_bytes(schema.table.name),
    )
    plan.owner = feed
    return plan


_INTEGERS = {
    tm.T_TINY: (images.OP_INT8, images.OP_UINT8),
    tm.T_SHORT: (images.OP_INT16, images.OP_UINT16),
    tm.T_INT24: (images.OP_INT24, images.OP_UINT24),
    tm.T_LONG: (images.OP_INT32, images.OP_UINT32),
    tm.T_LONGLONG: (images.OP_INT64, images.OP_UINT64),
}
_OTHERS = {
    tm.T_FLOAT: images.OP_FLOAT,
    tm.T_DOUBLE: images.OP_DOUBLE,
    tm.T_YEAR: images.OP_YEAR,
    tm.T_DATE: images.OP_DATE,
    tm.T_NEWDATE: images.OP_DATE,
    tm.T_TIME2: images.OP_TIME,
    tm.T_DATETIME2: images.OP_DATETIME,
    tm.T_TIMESTAMP2: images.OP_TIMESTAMP,
    tm.T_TIME: images.OP_TIME_OLD,
    tm.T_DATETIME: images.OP_DATETIME_OLD,
    tm.T_TIMESTAMP: images.OP_TIMESTAMP_OLD,
    tm.T_JSON: images.OP_JSON,
    tm.T_GEOMETRY: images.OP_GEOMETRY,
    tm.T_VECTOR: images.OP_VECTOR,
    tm.T_ENUM: images.OP_ENUM,
    tm.T_SET: images.OP_SET,
}


def _operation(type_: LogicalType, seen: tm.MapColumn, charsets: Charsets) -> tuple[int, int]:
    """(opcode, size) of a column in row images."""
    if seen.type in _INTEGERS:
        return _INTEGERS[seen.type][seen.unsigned], 0
    if seen.type in _OTHERS:
        return _OTHERS[seen.type], seen.size
    if seen.type == tm.T_NEWDECIMAL:
        op = images.OP_DECIMAL if seen.precision <= 18 else images.OP_DECIMAL_BIG
        return op, decimal_size(seen.precision, seen.scale)
    if seen.type == tm.T_BIT:
        return (images.OP_BIT if seen.size == 1 else images.OP_BITS), seen.size
    if seen.type == tm.T_STRING and seen.collation == tm.BINARY_COLLATION:
        fixed = {"uuid": images.OP_UUID, "text": images.OP_INET4 if seen.size == 4 else images.OP_INET6}
        return fixed.get(type_.kind, images.OP_BINARY), seen.size
    width = seen.size if seen.type == tm.T_BLOB else 1 if seen.size < 256 else 2
    if type_.kind == "vector":
        return images.OP_VECTOR_PLAIN, width
    if seen.collation == tm.BINARY_COLLATION:
        return images.OP_BYTES, width
    return (images.OP_TEXT if native.decoder(seen, charsets) is None else images.OP_TEXT_DECODED), width


_TEXT_OPERATIONS = {
    "boolean": images.OP_BIT,
    "bits": images.OP_BITS,
    "int8": images.OP_INT64,
    "int16": images.OP_INT64,
    "int32": images.OP_INT64,
    "int64": images.OP_INT64,
    "float32": images.OP_FLOAT,
    "float64": images.OP_DOUBLE,
    "date": images.OP_DATE,
    "year": images.OP_YEAR,
    "duration": images.OP_TIME,
    "timestamp": images.OP_DATETIME,
    "timestamp_tz": images.OP_TIMESTAMP,
    "geometry": images.OP_GEOMETRY,
    "vector": images.OP_VECTOR,
}


def _text_operation(type_: LogicalType, spelling: str) -> tuple[int, int]:
    if type_.kind == "decimal":
        return (images.OP_DECIMAL if (type_.precision or 0) <= 18 else images.OP_DECIMAL_BIG), 0
    if type_.kind == "bytes" and spelling.startswith("binary"):
        return images.OP_BINARY, type_.length or 0
    return _TEXT_OPERATIONS.get(type_.kind, images.OP_BYTES), type_.precision or 0
