"""Reading chunks of Postgres tables under snapshots (rules B2, B5, B9, B12)."""

from __future__ import annotations

import bisect
import contextlib
import io
import select
import time
from collections.abc import Iterator, Sequence
from typing import Literal

import fastavro
import psycopg
from psycopg import pq, sql

from tailrace_capture.postgres import catalog
from tailrace_capture.postgres.catalog import Rows
from tailrace_capture.postgres.pgoutput import Codec, InexactKeyError
from tailrace_capture.postgres.plan import build_plan
from tailrace_capture.postgres.replication import unavailable
from tailrace_capture.postgres.stop import NO_TEXT, corrupt_row, inexact_key, no_text
from tailrace_capture.postgres.visibility import PgSnapshot
from tailrace_capture.source import ChunkRows, KeyOrder, TableFeed, TableMovedError, fitting_rows
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_schemas import wire
from tailrace_schemas.avro import key_schema, millis
from tailrace_schemas.errors import SourceUnavailableError
from tailrace_schemas.position import LsnPosition, parse_lsn
from tailrace_schemas.table import Column, TableId, TableSchema

SLICE_BYTES = 8 << 20
SAMPLE_ABOVE_ROWS = 2_000_000
_UNCARRIED = {"nan", "infinity", "-infinity"}


def identifier(schema: TableSchema) -> sql.Identifier:
    return sql.Identifier(*schema.table)


def _cancel_copy(connection: pq.abc.PGconn) -> None:
    """Leave a COPY before its end, so that the session takes statements again."""
    connection.get_cancel().cancel()
    while connection.get_copy_data(0)[0] > 0:
        pass
    while connection.get_result() is not None:
        pass


class PgReader:
    """One session that reads chunks; each under a REPEATABLE READ snapshot of its own."""

    def __init__(self, connection: Rows, head: bytes) -> None:
        self._connection, self._head = connection, head
        self._codec = Codec(lambda _plan, _key: True)

    def begin(self, tables: Sequence[TableFeed]) -> PgSnapshot:  # noqa: ARG002 - the snapshot is the database's
        try:
            self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            row = self._connection.execute("SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()").fetchone()
        except psycopg.OperationalError as error:
            raise unavailable(error) from error
        assert row is not None
        return PgSnapshot.parse(row[0], LsnPosition(parse_lsn(row[1])))

    def read(
        self, table: TableFeed, low: Sequence[str] | None, high: Sequence[str] | None, chunk: str
    ) -> Iterator[ChunkRows]:
        try:
            self._check_columns(table.schema)
            yield from self._copy(table, self._query(table.schema, low, high), chunk)
            self._check_rewritten(table.schema)
        except psycopg.errors.UndefinedTable as error:
            raise TableMovedError(None) from error
        except psycopg.OperationalError as error:
            raise unavailable(error) from error

    def end(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except psycopg.OperationalError as error:
            raise unavailable(error) from error

    def abort(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.cancel()

    def close(self) -> None:
        self._connection.close()

    def _query(self, schema: TableSchema, low: Sequence[str] | None, high: Sequence[str] | None) -> bytes:
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in schema.columns)
        where = sql.SQL(" AND ").join([*_bound(schema, ">=", low), *_bound(schema, "<", high)] or [sql.SQL("true")])
        query = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT").format(columns, identifier(schema), where)
        return query.as_bytes(self._connection)

    def _copy(self, table: TableFeed, query: bytes, chunk: str) -> Iterator[ChunkRows]:
        connection = self._connection.pgconn
        result = connection.exec_(query)
        if result.status != pq.ExecStatus.COPY_OUT:
            raise psycopg.errors.lookup(_sqlstate(result))(result.error_message.decode("utf-8", "replace"))
        plan, tail = build_plan(table), self._tail(table, chunk)
        buffer = TopicBuffer(table.topic, int(table.buffer.partitions), table.buffer.fixed >= 0, Clock())
        buffer.hash_from = table.buffer.hash_from
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        rows = 0
        while True:
            try:
                got = self._codec.copy(plan, connection.get_copy_data, tail, buffer, SLICE_BYTES)
            except InexactKeyError as error:
                _cancel_copy(connection)
                raise inexact_key(table.schema.table, str(error)) from error
            except (ValueError, IndexError) as error:
                _cancel_copy(connection)
                raise corrupt_row(table.schema.table, str(error)) from error
            rows += got if got >= 0 else -1 - got
            if got < 0:
                break
            if buffer.size >= SLICE_BYTES:
                yield ChunkRows(buffer.take(), rows)
                rows = 0
            else:
                poll.poll(1000)
                connection.consume_input()
        self._end_copy(connection, table.schema.table)
        yield ChunkRows(buffer.take(), rows)

    def _end_copy(self, connection: pq.abc.PGconn, table: TableId) -> None:
        failed: pq.abc.PGresult | None = None
        while (result := connection.get_result()) is not None:
            failed = failed if result.status == pq.ExecStatus.COMMAND_OK else result
        if failed is None:
            return
        text = failed.error_message.decode("utf-8", "replace").strip().splitlines()[0]
        if _sqlstate(failed) in NO_TEXT:
            raise no_text(table, text)
        raise SourceUnavailableError("a chunk could not be read", detail=text)

    def _tail(self, table: TableFeed, chunk: str) -> bytes:
        """What follows the row: source (snapshot, no transaction), transaction null, op r, times."""
        micros = time.time_ns() // 1000
        schema = table.schema.table
        number, attempt = chunk.split(":")
        sequence = f'["chunk {number}","attempt {attempt}"]'
        times = b"\2" + wire.long_bytes(micros // 1000) + b"\2" + wire.long_bytes(micros)
        return b"".join(
            (
                self._head,
                wire.long_bytes(micros // 1000),
                b"\0" + wire.text_bytes("true"),
                wire.text_bytes(self._connection.info.dbname),
                b"\2" + wire.text_bytes(sequence),
                b"\2" + wire.long_bytes(micros),
                b"\2" + wire.long_bytes(micros * 1000),
                wire.text_bytes(schema.schema) + wire.text_bytes(schema.name),
                b"\0\0\0\0\0",  # txId, lsn, xmin, origin, origin_lsn
                b"\0",  # transaction
                wire.text_bytes("r"),
                times + b"\2" + wire.long_bytes(micros * 1000),
            )
        )

    def _check_columns(self, schema: TableSchema) -> None:
        """The catalogue this snapshot reads by must describe the table as the events will."""
        row = self._connection.execute(
            "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE (nspname, relname) = (%s, %s)",
            tuple(schema.table),
        ).fetchone()
        found = catalog.describe(self._connection, [(row[0], schema.table)]) if row is not None else []
        if not found:
            raise TableMovedError(None)
        if found[0].schema != schema:
            raise TableMovedError(found[0].schema, found[0].layout.to_text())

    def _check_rewritten(self, schema: TableSchema) -> None:
        """Rule B9: a rewrite leaves no event, and an older snapshot reads no rows. pg_class is read as S sees it, the
        function as the server is now."""
        row = self._connection.execute(
            """SELECT bool_and(c.relfilenode = coalesce(pg_relation_filenode(c.oid), 0)) FROM pg_class c
               WHERE c.relkind = 'r' AND (c.oid = %(t)s::regclass
                 OR c.oid IN (SELECT relid FROM pg_partition_tree(%(t)s::regclass) WHERE isleaf))""",
            {"t": identifier(schema).as_string(self._connection)},
        ).fetchone()
        if row is None or row[0] is False:
            raise TableMovedError(schema)


class SharedReader(PgReader):
    """A reader whose one snapshot was taken when it was made (mode full-load)."""

    def __init__(self, connection: Rows, head: bytes, shared: PgSnapshot) -> None:
        super().__init__(connection, head)
        self._shared = shared

    def begin(self, tables: Sequence[TableFeed]) -> PgSnapshot:  # noqa: ARG002
        return self._shared

    def end(self) -> None: ...


def share(connections: list[Rows], head: bytes) -> list[SharedReader]:
    """Readers of one moment: the first connection's snapshot, imported by the others (pg_export_snapshot)."""
    try:
        for connection in connections:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connections[0].execute(
            "SELECT pg_current_snapshot()::text, CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
            " ELSE pg_current_wal_insert_lsn() END::text, pg_export_snapshot()"
        )
        text, lsn, name = row.fetchone() or ("", "", "")
        for connection in connections[1:]:
            connection.execute(f"SET TRANSACTION SNAPSHOT '{name}'".encode())
    except psycopg.OperationalError as error:
        raise unavailable(error) from error
    shared = PgSnapshot.parse(text, LsnPosition(parse_lsn(lsn)))
    return [SharedReader(connection, head, shared) for connection in connections]


def _sqlstate(result: pq.abc.PGresult) -> str:
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000").decode()


def _bound(schema: TableSchema, operator: Literal[">=", "<"], bound: Sequence[str] | None) -> list[sql.Composable]:
    """`(k1, k2) >= (v1, v2)` with typed literals; empty for an open end."""
    if bound is None:
        return []
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in schema.key_columns)
    texts = sql.SQL(", ").join(
        sql.SQL("{}::{}").format(sql.Literal(text), catalog.type_sql(column.native))
        for column, text in zip(schema.key_columns, bound, strict=True)
    )
    return [sql.SQL("({}) {} ({})").format(names, sql.SQL(operator), texts)]


def plan_bounds(connection: Rows, schema: TableSchema, chunk_rows: int) -> list[list[str]]:
    """Bounds by the key's own order in the database: exact for tables up to SAMPLE_ABOVE_ROWS, from a sample above."""
    if not schema.key or not can_be_located(schema):
        return []
    name = identifier(schema).as_string(connection)
    row = connection.execute(
        "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::float8, coalesce(sum(pg_table_size(oid)), 0)::float8"
        " FROM pg_class"
        " WHERE oid = %s::regclass OR oid IN (SELECT relid FROM pg_partition_tree(%s::regclass) WHERE isleaf)",
        (name, name),
    ).fetchone()
    assert row is not None
    estimate, size = row
    if size <= 65536:
        return []
    if not estimate:  # never analysed; it is read whole below in any case
        counted = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(identifier(schema))).fetchone()
        estimate = max(1, counted[0]) if counted else 1
    chunk_rows = fitting_rows(chunk_rows, size / estimate)
    keys = sql.SQL(", ").join(sql.Identifier(column) for column in schema.key)
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in schema.key)
    sample: sql.Composable = sql.SQL("")
    step = chunk_rows
    if estimate > SAMPLE_ABOVE_ROWS:
        share = max(0.0001, 100 * 200_000 / estimate)
        sample, step = (
            sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(share)),
            max(1, int(chunk_rows * share / 100)),
        )
    query = sql.SQL(
        "SELECT {texts} FROM (SELECT {keys}, row_number() OVER (ORDER BY {keys}) - 1 AS n FROM {table} {sample}) s"
        " WHERE n > 0 AND n % {step} = 0 ORDER BY n"
    ).format(texts=texts, keys=keys, table=identifier(schema), sample=sample, step=sql.Literal(step))
    # A key that Avro cannot carry is no bound; its table stops at the row itself.
    return [list(bound) for bound in connection.execute(query) if not _UNCARRIED & {part.lower() for part in bound}]


class KnownOrder:
    """Keys of types whose order is the same here as in the database: integers, uuid, bytea, dates and timestamps, text
    under C collation (rule B12)."""

    def __init__(self, schema: TableSchema, bounds: list[tuple[object, ...]]) -> None:
        self._schema = fastavro.parse_schema(key_schema("x", schema) or {})
        self._bounds = bounds
        self._text = [column.type.kind == "string" for column in schema.key_columns]

    def value(self, key: bytes) -> tuple[object, ...]:
        record = fastavro.schemaless_reader(io.BytesIO(key[5:]), self._schema, None)
        assert isinstance(record, dict)
        return tuple(
            value.encode() if is_text else value for value, is_text in zip(record.values(), self._text, strict=True)
        )

    def chunk_of(self, key: bytes) -> int:
        return bisect.bisect_right(self._bounds, self.value(key))


_KNOWN = {"int16", "int32", "int64", "uuid", "bytes", "date", "timestamp", "decimal", "boolean"}


def is_known(schema: TableSchema) -> bool:
    return all(
        column.type.kind in _KNOWN
        or (column.type.kind == "string" and column.collation == "C" and not column.native.startswith("character("))
        for column in schema.key_columns
    )


# How a decoded key value becomes an SQL value of its type again.
_ASK: dict[str, str] = {
    **dict.fromkeys(("int16", "int32", "int64", "decimal", "float32", "float64", "boolean"), "%s::{native}"),
    **dict.fromkeys(("string", "text", "enum", "uuid", "timestamp_tz", "json", "xml"), "%s::{native}"),
    "date": "(date '1970-01-01' + %s::int)",
    "timestamp": "(timestamp '1970-01-01' + %s * interval '1 us')::{native}",
    "bytes": "%s::bytea",
}


def can_be_located(schema: TableSchema) -> bool:
    return all(column.type.kind in _ASK for column in schema.key_columns)


def _collations(connection: Rows, schema: TableSchema) -> dict[str, str]:
    """Column → its COLLATE clause, for the columns of types that have one."""
    rows = connection.execute(
        "SELECT attname, ' COLLATE ' || quote_ident(nspname) || '.' || quote_ident(collname) FROM pg_attribute"
        " JOIN pg_collation c ON c.oid = attcollation JOIN pg_namespace n ON n.oid = collnamespace"
        " WHERE attrelid = %s::regclass AND attnum > 0",
        (identifier(schema).as_string(connection),),
    )
    return {name: clause.replace("%", "%%") for name, clause in rows}


class AskedOrder:
    """Other keys: the source is asked which chunk (rule B12), in the order of the column itself: its type's and its
    collation's, which a value alone does not have."""

    def __init__(self, connection: Rows, schema: TableSchema, bounds: list[list[str]]) -> None:
        self._connection = connection
        self._schema = fastavro.parse_schema(key_schema("x", schema) or {})
        self._columns = schema.key_columns
        self._known: dict[bytes, int] = {}
        order = _collations(connection, schema)
        key = ", ".join(_ASK[c.type.kind].format(native=c.native) + order.get(c.name, "") for c in self._columns)
        tests = [f"(({key}) >= ({self._literal(bound)}))::int" for bound in bounds]
        self._query = "SELECT " + " + ".join(tests)
        self._times = len(bounds)

    def _literal(self, bound: list[str]) -> str:
        texts = [
            f"{sql.Literal(text).as_string(self._connection)}::{column.native}"
            for column, text in zip(self._columns, bound, strict=True)
        ]
        return ", ".join(texts).replace("%", "%%")

    def _parameter(self, column: Column, value: object) -> object:
        if column.type.kind == "timestamp" and isinstance(value, int):
            return value * 1000 if millis(column.type) else value
        return value if isinstance(value, int | bytes) else str(value)

    def chunk_of(self, key: bytes) -> int:
        found = self._known.get(key)
        if found is None:
            record = fastavro.schemaless_reader(io.BytesIO(key[5:]), self._schema, None)
            assert isinstance(record, dict)
            values = [self._parameter(c, v) for c, v in zip(self._columns, record.values(), strict=True)]
            row = self._connection.execute(self._query.encode(), values * self._times).fetchone()
            assert row is not None
            found = int(row[0])
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[key] = found
        return found


def key_order(connection: Rows, feed: TableFeed, bounds: list[list[str]]) -> KeyOrder:
    schema = feed.schema
    if not is_known(schema):
        return AskedOrder(connection, schema, bounds)
    order = KnownOrder(schema, [])
    codec, plan = Codec(lambda _plan, _key: True), build_plan(feed)
    ready = [order.value(codec.key_of(plan, [text.encode() for text in bound])) for bound in bounds]
    return KnownOrder(schema, ready)
