"""Reading chunks of MySQL and MariaDB tables under snapshots (rules B6, B7).

MariaDB: the consistent snapshot's own binary log position is exact. MySQL with GTIDs, keyed tables: the executed set
read before the view is the boundary; keys touched by what the view may already show are set back to their first image
before (`setback`). Keyless tables, and servers without GTIDs: the view is opened under a read lock on the table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pymysql
from pymysql.connections import Connection

from tailrace_capture.mysql import catalog, images, rows
from tailrace_capture.mysql.connection import ask, classified, inner, ours, run
from tailrace_capture.mysql.keys import condition
from tailrace_capture.mysql.layouts import UNPROVEN, binlog_status
from tailrace_capture.mysql.plan import text_plan
from tailrace_capture.mysql.progress import BinlogPosition, BinlogSnapshot
from tailrace_capture.mysql.select_rows import row_packets, select_statement, table_sql
from tailrace_capture.mysql.setback import SetBack
from tailrace_capture.mysql.stop import stop_error
from tailrace_capture.source import ChunkRows, TableFeed, TableMovedError
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_schemas.errors import InvariantError, SourceUnavailableError, TailraceError
from tailrace_schemas.gtid import GtidSet, MariaGtids
from tailrace_schemas.position import FilePlace, FilePosition, GtidPosition, MariaPosition, Position
from tailrace_schemas.table import TableId

log = logging.getLogger("tailrace.load")

SLICE_BYTES = 8 << 20
LOCK_SECONDS = 1
MOVED = {1146, 1412, 1054, 1051}  # no such table; definition has changed; unknown column

Coder = Callable[[], rows.RowCoder]


def consistent_view(connection: Connection[Any]) -> None:
    run(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    run(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")


def maria_boundary(connection: Connection[Any]) -> MariaPosition:
    """The binary log position of the view just opened (rule B6)."""
    status = {str(name).lower(): value for name, value in run(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'")}
    file, pos = str(status["binlog_snapshot_file"]), int(status["binlog_snapshot_position"])
    gtids = run(connection, "SELECT BINLOG_GTID_POS(%s, %s)", (file, pos))[0][0]
    if gtids is None:
        raise SourceUnavailableError("the binary log of the snapshot is gone already", detail=f"{file}:{pos}")
    return MariaPosition(MariaGtids.parse(str(gtids)), FilePlace(file, pos))


def executed(connection: Connection[Any]) -> GtidSet:
    return GtidSet.parse(str(run(connection, "SELECT @@GLOBAL.gtid_executed")[0][0]))


class ChunkReader:
    """One session. `server`: server_uuid where the source has no GTIDs, else None. `transactional`: whether the table's
    engine keeps old row versions; others are locked for the whole chunk. `set_back`: makes what reads ahead, from where
    the stream stands now."""

    def __init__(
        self,
        connect: Callable[[], Connection[Any]],
        mariadb: bool,
        server: str | None,
        transactional: Callable[[TableId], bool],
        coder: Coder,
        set_back: Callable[[TableFeed, BinlogPosition], SetBack],
    ) -> None:
        self._connect, self._mariadb, self._server = connect, mariadb, server
        self._connection = connect()
        self._transactional, self._coder = transactional, coder
        self._new_set_back = set_back
        self._set_back: SetBack | None = None
        self._fixed: BinlogSnapshot | None = None
        self._place = FilePlace("", 4)

    def fix(self, now: Position) -> None:
        """Open the one view that every `begin` from now on gives (mode full-load); no log is needed."""
        with classified("open a snapshot"):
            consistent_view(self._connection)
        nowhere = FilePosition("", FilePlace("none.0", 0))
        self._fixed = BinlogSnapshot(nowhere, now)

    def begin(self, tables: Sequence[TableFeed]) -> BinlogSnapshot:
        if self._fixed is not None:
            return self._fixed
        if not self._connection.open:
            self._connection = self._connect()
        self._set_back = None
        with classified("open a snapshot"):
            if not all(self._transactional(table.schema.table) for table in tables):
                self._lock(tables)
                boundary: BinlogPosition = self._here()
                snapshot = BinlogSnapshot(boundary, boundary)
            elif self._mariadb:
                consistent_view(self._connection)
                boundary = maria_boundary(self._connection)
                snapshot = BinlogSnapshot(boundary, boundary)
            elif self._server is not None or len(tables) > 1 or not tables[0].schema.key:
                snapshot = self._locked(tables)
            else:
                snapshot = self._unlocked(tables[0])
        self._place = snapshot.boundary.place or FilePlace("", 4)
        return snapshot

    def _locked(self, tables: Sequence[TableFeed]) -> BinlogSnapshot:
        """While nobody writes the tables, everything that ever wrote them is listed and visible."""
        self._lock(tables)
        try:
            boundary = self._here()
            consistent_view(self._connection)
        finally:
            run(self._connection, "UNLOCK TABLES")
        return BinlogSnapshot(boundary, boundary)

    def _lock(self, tables: Sequence[TableFeed]) -> None:
        """
        Raises:
            SourceUnavailableError: not to be had within LOCK_SECONDS; the core tries again later.
        """
        run(self._connection, f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}")
        names = ", ".join(table_sql(table.schema.table) for table in tables)
        run(self._connection, f"FLUSH TABLES {names} WITH READ LOCK")

    def _here(self) -> BinlogPosition:
        """Everything that has ended by now."""
        status = binlog_status(self._connection)
        place = FilePlace(str(status[0]), int(status[1]))
        if self._server is not None:
            return FilePosition(self._server, place)
        if self._mariadb:
            gtids = run(self._connection, "SELECT BINLOG_GTID_POS(%s, %s)", (place.file, place.pos))[0][0]
            return MariaPosition(MariaGtids.parse(str(gtids or "")), place)
        return GtidPosition(executed(self._connection), place)

    def _unlocked(self, table: TableFeed) -> BinlogSnapshot:
        """Rule B7: E1 before the view, P2 after it."""
        connection = self._connection
        before = executed(connection)
        consistent_view(connection)
        status = binlog_status(connection)
        end = FilePlace(str(status[0]), int(status[1]))
        boundary = GtidPosition(before, end)
        self._set_back = self._new_set_back(table, boundary)
        return BinlogSnapshot(boundary, GtidPosition(executed(connection), end))

    def read(
        self, table: TableFeed, low: Sequence[str] | None, high: Sequence[str] | None, chunk: str
    ) -> Iterator[ChunkRows]:
        whole = False
        try:
            self._check(table)
            yield from self._slices(table, low, high, chunk)
            # After a rewrite InnoDB refuses the view (1412), but not after a change that it makes in place.
            self._check(table)
            whole = True
        except pymysql.MySQLError as error:
            if error.args and error.args[0] in MOVED:
                raise TableMovedError(self._describe(table), UNPROVEN) from error
            raise ours(error, "read a chunk") from error
        except OSError as error:
            raise SourceUnavailableError("the connection broke while a chunk was read", detail=str(error)) from error
        finally:
            if not whole:
                # Rows that nobody read may still be on their way; `begin` connects anew.
                inner(self._connection)._force_close()

    def _slices(
        self, table: TableFeed, low: Sequence[str] | None, high: Sequence[str] | None, chunk: str
    ) -> Iterator[ChunkRows]:
        buffer = TopicBuffer(table.topic, int(table.buffer.partitions), table.buffer.fixed >= 0, Clock())
        buffer.hash_from = table.buffer.hash_from
        coder, plan = self._coder(), text_plan(table, buffer)
        number, _, attempt = chunk.partition(":")
        sequence = f'["chunk {number}","attempt {attempt}"]'.encode()
        now = time.time_ns()
        coder.begin_load(now // 1000, self._place.file.encode(), self._place.pos, sequence)
        coder.set_time(now)
        columns = table.schema.key_columns
        statement = f"{select_statement(table.schema)} WHERE {condition(columns, low, high)}"
        packets = row_packets(self._connection, statement)
        if self._set_back is None:
            touched: dict[bytes, bytes | None] = {}
        else:
            # All rows first: what the view already shows is known only after it was read (rule B7).
            held = list(packets)
            packets = iter(held)
            touched = self._set_back.touched(low, high)
        for data, at, end in packets:
            self._encode(coder, plan, data, at, end, buffer, touched)
            if buffer.size >= SLICE_BYTES:
                yield self._slice(buffer)
        if self._set_back is not None:
            self._set_back.put_back(touched, coder, buffer)
        yield self._slice(buffer)

    def _encode(
        self,
        coder: rows.RowCoder,
        plan: images.Plan,
        data: bytes,
        at: int,
        end: int,
        buffer: TopicBuffer,
        touched: dict[bytes, bytes | None],
    ) -> None:
        owner = plan.owner
        assert isinstance(owner, TableFeed)
        table = owner.schema.table
        try:
            if at < 0:
                coder.text_row(plan, data, 0, end, buffer, touched)
            elif int(coder.text_rows(plan, data, at, end, buffer, touched)) != end:
                raise InvariantError("a packet inside the rows of a chunk that is not a row")
        except (images.InexactKeyError, images.TornRowError) as error:
            raise stop_error(error, table) from error

    def _slice(self, buffer: TopicBuffer) -> ChunkRows:
        parts = buffer.take()
        return ChunkRows(parts, sum(count for _, count, _ in parts))

    def _check(self, table: TableFeed) -> None:
        """The catalogue must describe the table as the events will."""
        now = self._describe(table)
        if now != table.schema:
            raise TableMovedError(now, UNPROVEN)

    def _describe(self, table: TableFeed) -> Any:
        found = catalog.read_catalogue(self._connection, [table.schema.table])
        if table.schema.table in found.refused:
            raise found.refused[table.schema.table]
        return found.tables.get(table.schema.table)

    def end(self) -> None:
        if self._fixed is not None:
            return
        self._set_back = None
        if self._connection.open:
            ask(self._connection, "ROLLBACK")
            ask(self._connection, "UNLOCK TABLES")

    def abort(self) -> None:
        try:
            with closing(self._connect()) as other:
                ask(other, f"KILL {inner(self._connection).thread_id()}")
        except TailraceError as error:
            log.warning("a snapshot could not be ended: %s", error)

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()
