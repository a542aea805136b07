"""A Postgres database (14 or later) as a source."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg

from tailrace_capture.feed import Feed
from tailrace_capture.harm import Harm
from tailrace_capture.postgres import catalog, ddl_trigger, identity, preflight, slot, snapshot
from tailrace_capture.postgres.catalog import Described, Rows
from tailrace_capture.postgres.publication import Publication
from tailrace_capture.postgres.replication import ReplicationStream, connect, unavailable
from tailrace_capture.postgres.stream import Stream
from tailrace_capture.postgres.visibility import PgSnapshot
from tailrace_capture.source import KeyOrder, Resume, Snapshot, SnapshotReader, TableFeed
from tailrace_schemas import wire
from tailrace_schemas.errors import LOAD_AGAIN, Finding, PositionLostError, SourceUnavailableError, StopError
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.position import LsnPosition, Position, format_lsn, parse_lsn, parse_position
from tailrace_schemas.table import Engine, TableId, TableSchema
from tailrace_schemas.uri import DatabaseUrl
from tailrace_schemas.version import VERSION


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """`prefix` goes into `source.name`; `selects` is the pipeline's selection; `spool` a folder for big transactions
    that have not committed yet; `whole_images`: values without placeholder are fetched when not sent (rule C7);
    `owner`: id of the log, by which a slot left by a start that died at once is known as ours; `temporary`: the slot
    lives as long as its connection, and what happens after that is lost; `ddl_trigger`: an event trigger at the source
    tells of DDL (see ddl_trigger.py)."""

    url: DatabaseUrl
    slot: str
    publication: str
    prefix: str
    selects: Callable[[TableId], bool]
    whole_images: bool = False
    owner: str = ""
    temporary: bool = False
    ddl_trigger: Literal["auto", "on", "off"] = "off"
    spool: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "tailrace-spool")


def open_source(settings: PostgresSettings) -> PostgresSource:
    return PostgresSource(settings)


class PostgresSource:
    """See `tailrace_capture.source.Source`. Connections are made on first use; `close` ends them all, and the next use
    makes new ones."""

    engine: Engine = "postgresql"
    logs_cascades = True

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._connection: Rows | None = None
        self._keys: Rows | None = None
        self._watching: Rows | None = None
        self._lock = threading.Lock()
        self._described: dict[TableId, Described | None] = {}
        self._stream: Stream | None = None
        self._barrier: set[str] | None = None
        self._joined: frozenset[TableId] = frozenset()
        self._temporary: ReplicationStream | None = None
        self._streamed = False
        self._identity: dict[str, str] | None = None
        self._told = False  # an event trigger tells of DDL

    @property
    def sql(self) -> Rows:
        """The SQL session; used by one thread at a time."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect("")
        return self._connection

    def _connect(self, what: str) -> Rows:
        """A session on the server that `identity` described; an address may lead to another one from one moment to the
        next, and a standby's snapshots say something else (rule B5)."""
        connection = connect(self._settings.url, f"tailrace {self._settings.slot} {what}".strip())
        self._refuse_another(lambda: identity.of(connection), connection.close)
        return connection

    def _refuse_another(self, found: Callable[[], dict[str, str]], close: Callable[[], None]) -> None:
        try:
            if self._identity is not None and (now := found()) != self._identity:
                raise identity.changed(self._identity, now)
        except SourceUnavailableError:
            close()
            raise

    def _replicate(self) -> ReplicationStream:
        """As `_connect`."""
        stream = ReplicationStream(self._settings.url, f"tailrace {self._settings.slot}")
        self._refuse_another(lambda: identity.asked(stream), stream.close)
        return stream

    def close(self) -> None:
        for connection in (self._connection, self._keys, self._watching):
            if connection is not None:
                connection.close()
        if self._temporary is not None:
            self._temporary.close()
        self._connection = self._keys = self._watching = self._temporary = self._identity = None

    # --- before streaming

    def preflight(self, load: bool, stream: bool) -> list[Finding]:
        settings = self._settings
        return preflight.findings(
            self.sql,
            self._selected(),
            settings.slot,
            settings.publication,
            settings.ddl_trigger,
            load=load,
            stream=stream,
        )

    def identity(self) -> dict[str, str]:
        """Of the server that `url` leads to now; until `close` every connection must lead to that one."""
        self._identity = None
        self._identity = identity.of(self.sql)
        return dict(self._identity)

    def _one(self, query: str) -> tuple[str, ...]:
        try:
            row = self.sql.execute(query.encode()).fetchone()
        except psycopg.OperationalError as error:
            raise unavailable(error) from error
        assert row is not None
        return row

    def _selected(self) -> list[tuple[int, TableId]]:
        return [(oid, table) for oid, table in catalog.all_tables(self.sql) if self._settings.selects(table)]

    def tables(self) -> list[TableSchema]:
        try:
            found = catalog.describe(self.sql, self._selected())
        except psycopg.OperationalError as error:
            raise unavailable(error) from error
        self._described = {described.schema.table: described for described in found}
        return [described.schema for described in found]

    def layout(self, table: TableId) -> str:
        described = self._described.get(table)
        return "" if described is None else described.layout.to_text()

    def prepare(self, start: str | None) -> Position:
        identity.refuse_standby(self._identity or self.identity(), self._settings.url)
        tables = self.tables()
        if not tables:
            raise StopError("no table matches the selection", code="NO_TABLES", hint="look at --tables")
        settings, names = self._settings, [schema.table for schema in tables]
        if settings.temporary:
            return LsnPosition(self._prepare_temporary(names))
        self._joined = slot.make_publication(self.sql, settings.publication, names)
        fresh = not slot.exists(self.sql, settings.slot)
        if fresh and settings.owner:
            slot.claim_publication(self.sql, settings.publication, settings.owner)
        self._told = ddl_trigger.ensure(self.sql, settings.slot, settings.ddl_trigger)
        failpoint("capture.before_slot")
        at = slot.make_slot(self.sql, settings.slot, settings.publication, settings.owner)
        failpoint("capture.after_slot")
        if start not in (None, "now"):
            raise StopError("a new slot starts now", code="START", hint="--from now")
        return LsnPosition(at)

    def _prepare_temporary(self, tables: list[TableId]) -> int:
        self._refuse_gap()
        settings = self._settings
        self._temporary = self._replicate()
        return slot.make_temporary(self.sql, self._temporary, settings.slot, settings.publication, tables)

    def _refuse_gap(self) -> None:
        if self._settings.temporary and self._streamed:
            raise PositionLostError(
                "the connection was lost, and the temporary slot with it",
                code="SLOT_LOST",
                hint="start again: what changed in between is not seen",
            )

    def check(self, resume: Resume, before: dict[str, str], pasts: list[Position]) -> None:
        self._refuse_gap()
        here = self._identity or self.identity()
        identity.refuse_other(here, before)
        identity.refuse_standby(here, self._settings.url)
        lowest = self._lowest(resume, pasts)
        if here["timeline"] != before["timeline"]:
            identity.refuse_fork(self._history(here["timeline"]), here["timeline"], before["timeline"], lowest)
        # Not the flushed end: a snapshot's past is where WAL was being written, and flushed only soon after.
        end = parse_lsn(self._one("SELECT pg_current_wal_insert_lsn()::text")[0])
        if end < lowest:
            raise StopError(
                "the source stands before what the log holds",
                code="SOURCE_BEHIND",
                detail=f"its WAL ends at {format_lsn(end)}, the log is at {format_lsn(lowest)}",
                hint=LOAD_AGAIN,
            )
        assert isinstance(resume.position, LsnPosition)
        slot.check_slot(self.sql, self._settings.slot, resume.position.lsn)
        tables = [schema.table for schema in self.tables()]
        self._joined = slot.make_publication(self.sql, self._settings.publication, tables)
        self._told = ddl_trigger.ensure(self.sql, self._settings.slot, self._settings.ddl_trigger)

    def _history(self, timeline: str) -> str:
        if timeline == "1":
            return ""  # the first one has none
        stream = self._replicate()
        try:
            return stream.ask(f"TIMELINE_HISTORY {timeline}")[1]
        finally:
            stream.close()

    def joined(self) -> frozenset[TableId]:
        return self._joined

    def _lowest(self, resume: Resume, pasts: list[Position]) -> int:
        return max(position.lsn for position in (resume.position, *pasts) if isinstance(position, LsnPosition))

    def current_position(self) -> Position:
        return LsnPosition(
            parse_lsn(
                self._one(
                    "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
                    " ELSE pg_current_wal_flush_lsn() END::text"
                )[0]
            )
        )

    def parse_position(self, text: str) -> Position:
        return parse_position(text)

    def estimate_rows(self, table: TableId) -> int:
        described = self._described.get(table)
        if described is None:
            return 0
        row = self.sql.execute(
            "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE oid = %(o)s OR oid IN"
            " (SELECT relid FROM pg_partition_tree(%(o)s) WHERE isleaf)",
            {"o": described.oid},
        ).fetchone()
        return 0 if row is None else int(row[0])

    def drop(self) -> list[str]:
        done = []
        name = self._settings.slot
        mine = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND NOT temporary"
        if self.sql.execute(mine, (name,)).fetchone():
            self.sql.execute("SELECT pg_drop_replication_slot(%s)", (name,))
            done.append(f"dropped replication slot {name}")
        publication = self._settings.publication
        if self.sql.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", (publication,)).fetchone():
            quoted = slot.quoted(self.sql, publication)
            self.sql.execute(f"DROP PUBLICATION {quoted}".encode())
            done.append(f"dropped publication {publication}")
        return done + ddl_trigger.drop(self.sql, name)

    def harm(self, position: Position, source_ms: int) -> Harm:  # noqa: ARG002 - the slot knows its own position
        if self._watching is None or self._watching.closed:
            self._watching = self._connect("watch")
        try:
            return slot.harm(self._watching, self._settings.slot)
        except psycopg.OperationalError as error:
            raise unavailable(error) from error

    # --- streaming

    def stream(self, feed: Feed, resume: Resume) -> None:
        settings = self._settings
        assert isinstance(resume.position, LsnPosition)
        self._barrier = self._lock_holders([d.oid for d in self._described.values() if d is not None])
        connection = self._temporary or self._replicate()
        self._temporary, self._streamed = None, True
        try:
            connection.start(settings.slot, resume.position.lsn, settings.publication, messages=self._told)
            side = self._connect("catalogue")
            try:
                self._stream = Stream(
                    connection, side, feed, self._described, self.head(), settings.spool, settings.whole_images
                )
                watch = Publication(side, feed, self._described, settings.publication, settings.selects, self._added)
                self._stream.watch(watch, settings.slot)
                self._stream.run(resume.position)
            finally:
                side.close()
        finally:
            connection.close()

    def head(self) -> bytes:
        """The constant beginning of the source block: version, connector, name."""
        return b"".join(map(wire.text_bytes, (VERSION, "postgresql", self._settings.prefix)))

    # --- the load

    def _added(self, oids: list[int]) -> None:
        """Tables have joined the publication: rule B4 for them. In the stream's thread."""
        assert self._barrier is not None
        self._barrier = self._barrier | self._lock_holders(oids)

    def _lock_holders(self, oids: list[int]) -> set[str]:
        """Rule B4: virtual transactions that may have written to a table before it was published, or whose commit the
        stream may have passed before this process began."""
        with self._connect("barrier") as connection:
            rows = connection.execute(
                "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted"
                " AND mode NOT IN ('AccessShareLock', 'RowShareLock') AND pid IS DISTINCT FROM pg_backend_pid()"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND relation IN (SELECT unnest(%(o)s::oid[]) UNION"
                "  SELECT (pg_partition_tree(t)).relid FROM unnest(%(o)s::oid[]) t)",
                {"o": oids},
            ).fetchall()
        return {row[0] for row in rows}

    def accepts(self, snapshot: Snapshot) -> bool:
        assert isinstance(snapshot, PgSnapshot)
        if self._stream is None or self._barrier is None:
            return False
        with self._lock:
            if self._barrier:
                self._wait_for_holders(self._stream)
                return False
        return self._stream.accepts(snapshot)

    def _wait_for_holders(self, stream: Stream) -> None:
        assert self._barrier is not None
        left = stream.locks_still_held(self._barrier)
        if not left:
            with self._connect("barrier") as connection:
                slot.renew_publication(connection, self._settings.publication)
        self._barrier = left

    def reader(self) -> SnapshotReader:
        return snapshot.PgReader(self._connect("load"), self.head())

    def consistent_readers(self, count: int) -> list[SnapshotReader]:
        """The first one's snapshot, exported to the others; it holds the export open until they have taken it."""
        connections = [self._connect("load") for _ in range(count)]
        return list(snapshot.share(connections, self.head()))

    def plan(self, table: TableSchema, chunk_rows: int) -> list[list[str]]:
        with self._lock:
            try:
                return snapshot.plan_bounds(self.sql, table, chunk_rows)
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
                return []  # altered or gone by now: its reader says so
            except psycopg.OperationalError as error:
                raise unavailable(error) from error

    def key_order(self, table: TableFeed, bounds: list[list[str]]) -> KeyOrder:
        if snapshot.is_known(table.schema):
            return snapshot.key_order(self.sql, table, bounds)
        if self._keys is None or self._keys.closed:
            self._keys = self._connect("keys")
        return snapshot.key_order(self._keys, table, bounds)

    def snapshot_from_text(self, text: str) -> Snapshot:
        return PgSnapshot.from_text(text)


__all__ = ["PositionLostError", "PostgresSettings", "PostgresSource", "open_source"]
