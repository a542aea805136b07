"""A MySQL (5.7, 8.0, 9) or MariaDB (10.11, 11) database as a source.

Nothing is made at the source: `prepare` only notes where the log ends. GTIDs are used where the server has them
everywhere (gtid_mode ON, every MariaDB); else file and position, on this server alone.
"""

from __future__ import annotations

import functools
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.connections import Connection

from tailrace_capture.feed import Feed
from tailrace_capture.harm import Harm
from tailrace_capture.mysql import catalog, errant, history, images, jsonb, keys, preflight, rows
from tailrace_capture.mysql.ahead import Ahead
from tailrace_capture.mysql.catalog import Catalogue
from tailrace_capture.mysql.connection import ask, classified, connect, is_mariadb, quote
from tailrace_capture.mysql.headroom import binlog_harm
from tailrace_capture.mysql.held import Held
from tailrace_capture.mysql.layouts import UNPROVEN, Layouts, binlog_status, log_end
from tailrace_capture.mysql.native import Charsets
from tailrace_capture.mysql.progress import BinlogPosition, BinlogSnapshot, Progress, binlog_position, reading_start
from tailrace_capture.mysql.protocol import DumpClient
from tailrace_capture.mysql.setback import SetBack
from tailrace_capture.mysql.snapshot import MOVED, ChunkReader
from tailrace_capture.mysql.stream import Stream
from tailrace_capture.mysql.xa import find_prepared
from tailrace_capture.source import KeyOrder, Resume, Snapshot, SnapshotReader, TableFeed
from tailrace_schemas.errors import (
    LOAD_AGAIN,
    Finding,
    InvariantError,
    SourceUnavailableError,
    StopError,
    TailraceError,
)
from tailrace_schemas.gtid import GtidSet, MariaGtids
from tailrace_schemas.position import FilePlace, FilePosition, GtidPosition, MariaPosition, Position, parse_position
from tailrace_schemas.table import Engine, TableId, TableSchema
from tailrace_schemas.uri import DatabaseUrl
from tailrace_schemas.version import VERSION
from tailrace_schemas.wire import text_bytes

log = logging.getLogger("tailrace.capture")
GLOBAL_LOCK_SECONDS = 5
_TRANSACTIONAL = frozenset({"innodb", "rocksdb", "ndbcluster", "ndb"})


@dataclass(frozen=True, slots=True)
class MySqlSettings:
    """`server_id`: ours among the source's replicas. `prefix` goes into `source.name`; `selects` is the pipeline's
    selection. `heartbeat_seconds` is kept for symmetry: the dump's own heartbeats come every second."""

    url: DatabaseUrl
    server_id: int
    prefix: str
    selects: Callable[[TableId], bool]
    heartbeat_seconds: float = 10.0


def identity_of(connection: Connection[Any]) -> dict[str, str]:
    """MariaDB has no server_uuid; its id and the domains of its log stand for it."""
    if is_mariadb(connection):
        return {"kind": "mariadb", "server_id": str(ask(connection, "SELECT @@GLOBAL.server_id")[0][0])}
    return {"kind": "mysql", "server_uuid": str(ask(connection, "SELECT @@GLOBAL.server_uuid")[0][0])}


def open_source(settings: MySqlSettings) -> MySqlSource:
    return MySqlSource(settings)


class MySqlSource:
    """See `tailrace_capture.source.Source`. Connections are made on first use; `close` ends them, and the
    next use makes new ones."""

    engine: Engine
    logs_cascades = False  # MySQL 9.6 and later do; what is emulated besides finds nothing left to do

    def __init__(self, settings: MySqlSettings) -> None:
        self._settings = settings
        self.engine = settings.url.engine
        self._connection: Connection[Any] | None = None
        self._lock = threading.RLock()
        self._charsets: Charsets | None = None
        self._storage: dict[TableId, str] = {}
        self._stream: Stream | None = None
        self._kind: type[BinlogPosition] | None = None
        self._watching: Connection[Any] | None = None
        self._identity: dict[str, str] | None = None

    @property
    def sql(self) -> Connection[Any]:
        """The SQL session; behind `_lock` where another thread may ask."""
        if self._connection is None or not self._connection.open:
            self._connection = self._connect()
            self.engine = "mariadb" if is_mariadb(self._connection) else "mysql"
        return self._connection

    def _connect(self) -> Connection[Any]:
        """A session on the server that `identity` described: an address may lead to another one at any moment."""
        connection = connect(self._settings.url)
        if self._identity is not None and (found := identity_of(connection)) != self._identity:
            connection.close()
            raise SourceUnavailableError("another server answers at the source's address", detail=str(found))
        return connection

    def close(self) -> None:
        for connection in (self._connection, self._watching):
            if connection is not None and connection.open:
                connection.close()
        self._connection = self._watching = None
        self._kind = None
        self._identity = None

    # --- what the source is

    def preflight(self, load: bool, stream: bool) -> list[Finding]:
        names = self._selected()
        found = self._read(names)
        return preflight.findings(
            self.sql, names, found, self._settings.server_id, load=load, stream=stream, own=self._replica_name()
        )

    def _replica_name(self) -> str:
        return "tailrace"

    def identity(self) -> dict[str, str]:
        """Until `close` every connection must lead to this server."""
        with self._lock:
            self._identity = identity_of(self.sql)
            return dict(self._identity)

    def _selected(self) -> list[TableId]:
        names = catalog.table_names(self.sql, None)
        return [table for table in names if self._settings.selects(table)]

    def _read(self, names: list[TableId]) -> Catalogue:
        found = catalog.read_catalogue(self.sql, names)
        self._storage.update(found.storage)
        return found

    def tables(self) -> list[TableSchema]:
        with self._lock:
            found = self._read(self._selected())
            for error in found.refused.values():
                raise StopError(error.message, code=error.code, hint=error.hint, table=error.table, column=error.column)
            return list(found.tables.values())

    # --- positions

    def parse_position(self, text: str) -> Position:
        return parse_position(text)

    def current_position(self) -> Position:
        with self._lock:
            if ask(self.sql, "SELECT @@GLOBAL.log_bin")[0][0] == 0:
                return self._without_log()
            return self._position_of(binlog_status(self.sql))

    def _without_log(self) -> Position:
        """A place for mode full-load, which needs no binary log."""
        return FilePosition("", FilePlace("none.0", 0))

    def _position_of(self, status: tuple[Any, ...]) -> BinlogPosition:
        place = FilePlace(str(status[0]), int(status[1]))
        kind = self._position_kind()
        if kind is MariaPosition:
            gtids = ask(self.sql, "SELECT BINLOG_GTID_POS(%s, %s)", (place.file, place.pos))[0][0]
            return MariaPosition(MariaGtids.parse(str(gtids or "")), place)
        if kind is GtidPosition:
            return GtidPosition(GtidSet.parse(str(ask(self.sql, "SELECT @@GLOBAL.gtid_executed")[0][0])), place)
        return FilePosition(self.identity()["server_uuid"], place)

    def _position_kind(self) -> type[BinlogPosition]:
        if self._kind is None:
            if is_mariadb(self.sql):
                self._kind = MariaPosition
            else:
                mode = str(ask(self.sql, "SELECT @@GLOBAL.gtid_mode")[0][0])
                self._kind = GtidPosition if mode == "ON" else FilePosition
        return self._kind

    def layout(self, table: TableId) -> str:  # noqa: ARG002 - the same for all: `tables` asked the catalogue
        return UNPROVEN

    def prepare(self, start: str | None) -> Position:
        if ask(self.sql, "SELECT @@GLOBAL.log_bin")[0][0] == 0:
            raise StopError("the source writes no binary log", code="LOG_BIN", hint="start the server with --log-bin")
        history.refuse_silent_replica(self.sql)
        if start in (None, "now"):
            return self.current_position()
        try:
            position = binlog_position(parse_position(str(start)))
        except (ValueError, InvariantError) as error:
            raise StopError(
                "not a position of this source", code="START", detail=str(start), hint="--from now"
            ) from error
        history.refuse_purged(self.sql, position)
        return position

    def check(self, resume: Resume, before: dict[str, str], pasts: list[Position]) -> None:
        here = self.identity()
        position = binlog_position(resume.position)
        if here["kind"] != before.get("kind"):
            raise StopError(
                "this is not the source that the log was written from",
                code="WRONG_SOURCE",
                detail=f"it is {here['kind']}, in the log {before.get('kind')}",
                hint="point the URL at that source again, or give this one a pipeline of its own: --name",
            )
        if isinstance(position, FilePosition) and here["server_uuid"] != position.server:
            raise StopError(
                "without GTIDs only the same server can go on",
                code="WRONG_SOURCE",
                detail=f"server_uuid is {here['server_uuid']}, in the log {position.server}",
                hint=LOAD_AGAIN,
            )
        needed = [position, *(binlog_position(past) for past in pasts)]
        history.refuse_silent_replica(self.sql)
        history.refuse_behind(self.sql, binlog_position(self.current_position()), needed)
        if here == before:
            history.refuse_rewritten(self.sql, position)
        history.refuse_purged(self.sql, position)
        if here != before:
            errant.refuse_errant(self.sql, functools.partial(self._side_dump, until_end=True), needed)

    def harm(self, position: Position, source_ms: int) -> Harm:
        if self._watching is None or not self._watching.open:
            self._watching = self._connect()
        return binlog_harm(self._watching, binlog_position(position).place, source_ms)

    # --- streaming

    def stream(self, feed: Feed, resume: Resume) -> None:
        position = binlog_position(resume.position)
        side = self._connect()
        try:
            preflight.refuse_taken_server_id(side, self._settings.server_id)
            layouts = Layouts(side, self._known_charsets(), self._ahead(), self._storage)
            client = DumpClient(self._connect, self._settings.server_id)
            try:
                self._start(client, position)
                progress, end = Progress.at(position), log_end(side)
                self._stream = Stream(
                    client, feed, progress, layouts, self._head(), end, self._look_back, self._settings.selects
                )
                self._stream.run()
            finally:
                client.close()
        finally:
            side.close()

    def _start(self, client: DumpClient, position: BinlogPosition) -> None:
        start = reading_start(position)
        if isinstance(start, GtidSet):
            client.from_gtids(start)
        elif isinstance(start, MariaGtids):
            client.from_maria_gtids(start)
        else:
            client.from_place(start)

    def _known_charsets(self) -> Charsets:
        with self._lock:
            if self._charsets is None:
                self._charsets = catalog.read_charsets(self.sql)
            return self._charsets

    def _head(self) -> bytes:
        """The constant beginning of the source block: version, connector, name."""
        return text_bytes(VERSION) + text_bytes(self.engine) + text_bytes(self._settings.prefix)

    # --- the load

    def accepts(self, snapshot: Snapshot) -> bool:
        assert isinstance(snapshot, BinlogSnapshot)
        return self._stream is not None and self.knows_its_place() and snapshot.sees_all(self._stream.progress.passed)

    def knows_its_place(self) -> bool:
        """Whether the stream has been told by the server which file and offset it reads."""
        return self._stream is not None and self._stream.progress.passed.place is not None

    def reader(self) -> SnapshotReader:
        with self._lock:
            kind = self._position_kind()
            server = self.identity()["server_uuid"] if kind is FilePosition else None
            self._known_charsets()
            return self._chunk_reader(server)

    def _chunk_reader(self, server: str | None) -> ChunkReader:
        mariadb = is_mariadb(self.sql)
        return ChunkReader(self._connect, mariadb, server, self._is_transactional, self._coder, self._set_back)

    def consistent_readers(self, count: int) -> list[SnapshotReader]:
        """Under a brief global read lock for several readers; where it may not be had, one reader."""
        with self._lock:
            now = self.current_position()
            readers = [self._chunk_reader(None) for _ in range(max(1, count))]
            locked = count > 1 and self._lock_all()
            try:
                for reader in readers if locked else readers[:1]:
                    reader.fix(now)
            finally:
                if locked:
                    ask(self.sql, "UNLOCK TABLES")
        if not locked:
            for reader in readers[1:]:
                reader.close()
            return list(readers[:1])
        return list(readers)

    def _lock_all(self) -> bool:
        try:
            ask(self.sql, f"SET SESSION lock_wait_timeout = {GLOBAL_LOCK_SECONDS}")
            ask(self.sql, "FLUSH TABLES WITH READ LOCK")
        except TailraceError as error:
            log.warning("one reader instead of several: the global read lock was not to be had: %s", error)
            return False
        return True

    def _is_transactional(self, table: TableId) -> bool:
        return self._storage.get(table, "InnoDB").lower() in _TRANSACTIONAL

    def _coder(self, lookup: Callable[[bytes], images.Plan | None] = lambda _body: None) -> rows.RowCoder:
        return rows.RowCoder(self._head(), lookup, lambda _plan, _key: True, jsonb.to_text, jsonb.patch)

    def _set_back(self, table: TableFeed, boundary: BinlogPosition) -> SetBack:
        """Called while the stream stands still."""
        assert self._stream is not None
        assert isinstance(boundary, GtidPosition)
        progress = self._stream.progress
        end = boundary.place
        start = progress.passed.place or end
        assert end is not None and start is not None
        return SetBack(
            table,
            boundary.gtids,
            start,
            end,
            self._stream.prepared(),
            self._look_back,
            self._side_dump,
            self._coder,
            self._connect,
            self._known_charsets(),
            self._ahead(),
        )

    def _side_dump(self, until_end: bool = False) -> DumpClient:
        # Any id that no replica has; the server cuts off a second dump under the same one.
        number = random.SystemRandom().randrange(1 << 31, 1 << 32)
        return DumpClient(self._connect, number, until_end=until_end)

    def _ahead(self) -> Ahead:
        """One for each thread that reads ahead."""
        return Ahead(self._side_dump, self._known_charsets())

    def _look_back(self, xid: bytes) -> Held | None:
        with self._lock:
            files = [str(row[0]) for row in ask(self.sql, "SHOW BINARY LOGS")]
        return find_prepared(lambda: self._side_dump(until_end=True), files, xid)

    def plan(self, table: TableSchema, chunk_rows: int) -> list[list[str]]:
        with self._lock, classified("plan a load"):
            try:
                return keys.plan_bounds(self.sql, table, chunk_rows)
            except pymysql.MySQLError as error:
                if error.args and error.args[0] in MOVED:
                    return []  # altered or gone by now: its reader says so
                raise

    def key_order(self, table: TableFeed, bounds: list[list[str]]) -> KeyOrder:
        return keys.key_order(self._connect, table, bounds)

    def snapshot_from_text(self, text: str) -> Snapshot:
        return BinlogSnapshot.from_text(text)

    def estimate_rows(self, table: TableId) -> int:
        with self._lock:
            found = ask(
                self.sql,
                "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE (TABLE_SCHEMA, TABLE_NAME) = (%s, %s)",
                tuple(table),
            )
        return int(found[0][0] or 0) if found else 0

    def joined(self) -> frozenset[TableId]:
        """The binlog holds every table's changes."""
        return frozenset()

    def drop(self) -> list[str]:
        return []


__all__ = ["MySqlSettings", "MySqlSource", "open_source", "quote"]
