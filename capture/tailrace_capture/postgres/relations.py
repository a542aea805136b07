"""Captured tables as the stream describes them: what a Relation message changes, and what changes without one."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

from tailrace_capture.feed import Feed
from tailrace_capture.postgres import catalog
from tailrace_capture.postgres.catalog import Described, Rows
from tailrace_capture.postgres.ddl_trigger import Told
from tailrace_capture.postgres.layout import Evolution, Layout, detached, evolve, in_between
from tailrace_capture.postgres.pgoutput import Codec, Plan
from tailrace_capture.postgres.plan import build_plan
from tailrace_capture.source import SchemaChange, TableFeed
from tailrace_schemas.errors import TABLE_AGAIN, TableStopError
from tailrace_schemas.position import parse_lsn
from tailrace_schemas.table import TableId, TableSchema

log = logging.getLogger("tailrace.capture")


class Relations:
    """`described`: the tables in the catalogue as they were read last, None for one that is gone; `ignored`: oids whose
    changes are not captured, each with its last Relation message. `await_visible` returns when the catalogue shows what
    the transaction being read did."""

    def __init__(
        self,
        side: Rows,
        feed: Feed,
        codec: Codec,
        described: dict[TableId, Described | None],
        await_visible: Callable[[], None],
    ) -> None:
        self._side, self._feed, self._codec, self._described = side, feed, codec, described
        self._await_visible = await_visible
        self.ignored: dict[int, bytes] = {}
        self._met: set[int] = set()
        self._told: dict[int, Described] = {}
        self._at: dict[int, int] = {}  # LSN of the last Relation message
        self._seen: list[Described] = []
        self._seen_until = 0

    def ignore(self, oid: int, message: bytes = b"") -> None:
        self.ignored[oid] = message or self.ignored.get(oid, b"")
        self._codec.plans.pop(signed(oid), None)

    def lost(self, table: TableId) -> None:
        """The table is captured no more."""
        known = self._described.get(table)
        if known is not None:
            self.ignore(known.oid)

    def met(self, oid: int) -> None:
        """The table is captured from now on. The server does not describe it again if it has done so."""
        message = self.ignored.pop(oid, b"")
        if message:
            self.relation(message, 0)

    def relation(self, m: bytes, at: int, lsn: int = 0) -> None:
        """Take in the Relation message at `at`; `lsn`: of the change it was sent for."""
        oid, table, flagged, signature = parse_relation(m, at)
        self._at[oid] = lsn
        feed = self._feed.tables.get(table)
        if feed is None or table not in self._described:
            self.ignore(oid, m[at:])
            return
        known = self._described[table]
        again = oid in self._met
        self._met.add(oid)
        told = self._told.get(oid)
        if known is not None and known.layout.partitioned:
            # Also said before the first change in a partition that is new to the stream. It may have been attached with
            # rows, and no change of those may come before they are loaded.
            again, told = True, None
            self._await_visible()
        if told is not None and told.signature == signature:
            known = told
        elif again or known is None or (oid, signature) != (known.oid, known.signature):
            known = next(iter(catalog.describe(self._side, [(oid, table)])), None)
            self._described[table] = known
        try:
            shape = self._shape(feed, known, signature, flagged)
            fitting = self._fitting(feed, known, shape)
        except TableStopError as error:
            self._feed.stop_table(table, error)
            self.ignore(oid, m[at:])
            return
        self._codec.plans[signed(oid)] = build_plan(fitting)

    def _shape(
        self, feed: TableFeed, known: Described | None, signature: catalog.Signature, flagged: set[str]
    ) -> TableSchema:
        """The table as the message describes it. `known`: the table in the catalogue now.

        Raises:
            TableStopError: a type of it no longer exists.
        """
        if known is not None and known.signature == signature:
            return known.schema
        return catalog.describe_relation(self._side, feed.schema, signature, flagged)

    def _fitting(self, feed: TableFeed, known: Described | None, shape: TableSchema) -> TableFeed:
        """A feed for rows of this shape. A new shape is announced at once, but for rows that are older than what the
        log holds: those of a table in load (see `decide`), and those of a transaction that is read again (rule C3).

        Raises:
            TableStopError: the publication leaves columns out.
        """
        change = self._change(feed, known, shape)
        if change is not None:
            in_past = feed.buffer.judged or self._codec.ordinal < self._codec.skip
            if not in_past and (hidden := _hidden(feed, known, shape)):
                raise TableStopError(
                    f"its changes are published without column {', '.join(hidden)}",
                    code="PUBLICATION_CHANGED",
                    hint=f'ALTER PUBLICATION <publication> SET TABLE "{shape.table.schema}"."{shape.table.name}"; '
                    + TABLE_AGAIN,
                    table=shape.table,
                    column=hidden[0],
                )
            if not in_past or (known is not None and change.schema == known.schema):
                feed = self._feed.change_schema(change)
        if feed.schema == shape:
            return feed
        return TableFeed(shape, feed.topic, feed.key_id, feed.value_id, feed.buffer, feed.layout)

    @staticmethod
    def _change(feed: TableFeed, known: Described | None, shape: TableSchema) -> SchemaChange | None:
        """None for nothing. Where the catalogue has moved on and a doubt is left, the change goes there at once."""
        old = Layout.from_text(feed.layout)
        if known is not None and known.schema == shape:
            found = evolve(old, known.layout, feed.schema, shape)
            if shape == feed.schema and not found.reload:
                return None
            return _schema_change(shape, known.layout, found)
        if shape == feed.schema:
            return None
        found, layout = in_between(old, None if known is None else known.layout, feed.schema, shape)
        if found.reload and known is not None:
            return _schema_change(known.schema, known.layout, found)
        return _schema_change(shape, layout, found)

    def decide(self, plan: Plan, key: bytes | None) -> bool:
        """Rule B1, asked by the codec for tables in load. A table whose relation differs from what its chunks were read
        by starts again when a change of it is really published; that change is then dropped with it."""
        if not self._feed.decide(plan.buffer, key):
            return False
        owner = plan.owner
        assert isinstance(owner, TableFeed)
        now = self._feed.tables.get(owner.schema.table)
        if now is None or now.schema == owner.schema:
            return now is not None
        plan.owner = self._feed.change_schema(SchemaChange(owner.schema, owner.layout, renamed={}, reload=True))
        return False

    # --- what the event trigger tells

    def told(self, told: Told) -> bool:
        """DDL at its place. Gives whether other tables have come or gone, so that the catalogue is worth a look."""
        if self._codec.ordinal < self._codec.skip:
            return False  # in the log already (rule C3)
        new = bool(told.dropped)
        try:
            found = catalog.described(self._side, told.tables, told.rows)
        except TableStopError:
            found = []  # a type is gone by now: the next row says so, if there is one
        for now in found:
            known = self._described.get(now.schema.table)
            if now.schema.table not in self._feed.tables or known is None or known.oid != now.oid:
                new = True
            elif told.lsn > self._at.get(now.oid, 0):
                self._follow(now)  # else written in a savepoint, and sent behind a row that has told already
        return new

    def _follow(self, now: Described) -> None:
        """The table is so from here on, and all that became of its rows is told by this step alone. One in load is left
        to the rules of the load."""
        table = now.schema.table
        feed = self._feed.tables[table]
        if feed.buffer.judged:
            self._told.pop(now.oid, None)
            return
        old = Layout.from_text(feed.layout)
        if detached(old, now.layout):
            log.warning("partitions left a table, their rows stay at the targets", extra={"table": str(table)})
        found = evolve(old, now.layout, feed.schema, now.schema)
        self._described[table] = self._told[now.oid] = now
        if found.reload or feed.schema != now.schema:
            feed = self._feed.change_schema(_schema_change(now.schema, now.layout, found))
            self._codec.plans[signed(now.oid)] = build_plan(feed)
        elif _differs(feed, now.layout):
            self._feed.note_layout(table, now.layout.to_text())

    # --- columns and storage that change while no row does

    def look(self) -> None:
        """Compare the catalogue with what the log says of each table. What differs holds from the place on where the
        source's log ended at that moment, if the stream has not said so itself by then."""
        if self._seen_until:
            return
        row = self._side.execute(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
            " ELSE pg_current_wal_insert_lsn() END::text"
        ).fetchone()
        assert row is not None
        feeds = {
            known.oid: feed
            for table, feed in self._feed.tables.items()
            if (known := self._described.get(table)) is not None
        }
        looks = catalog.layouts(self._side, list(feeds), missing=False)
        differ = [(oid, feeds[oid].schema.table) for oid, look in looks.items() if _differs(feeds[oid], look)]
        if differ:
            self._seen = catalog.describe(self._side, differ)
            self._seen_until = parse_lsn(row[0])
        self._feed.settled = not differ

    def settle(self, end: int) -> None:
        """The stream stands between two transactions, and everything before `end` has passed."""
        if not self._seen_until or end < self._seen_until:
            return
        for seen in self._seen:
            table = seen.schema.table
            feed = self._feed.tables.get(table)
            if feed is None or not _differs(feed, seen.layout):
                continue
            before = Layout.from_text(feed.layout)
            if detached(before, seen.layout):
                log.warning("partitions left a table, their rows stay at the targets", extra={"table": str(table)})
            found = evolve(before, seen.layout, feed.schema, seen.schema)
            self._described[table] = seen
            self._told.pop(seen.oid, None)
            if found.reload or feed.schema != seen.schema:
                feed = self._feed.change_schema(_schema_change(seen.schema, seen.layout, found))
                self._codec.plans[signed(seen.oid)] = build_plan(feed)
            else:
                self._feed.note_layout(table, seen.layout.to_text())
        self._seen, self._seen_until = [], 0
        self._feed.settled = True


def _hidden(feed: TableFeed, known: Described | None, shape: TableSchema) -> list[str]:
    """Columns that the log knows and the message lacks, while the table has them still: under their own numbers, so
    they were not dropped and made again."""
    if known is None:
        return []
    old, there = Layout.from_text(feed.layout), {column.name for column in shape.columns}
    if old is None:
        return []
    return [
        column.name
        for column in feed.schema.columns
        if column.name not in there
        and column.name in old.columns
        and column.name in known.layout.columns
        and old.columns[column.name][0] == known.layout.columns[column.name][0]
    ]


def _schema_change(schema: TableSchema, layout: Layout | None, found: Evolution) -> SchemaChange:
    if found.reload:
        extra = {"table": str(schema.table), "why": found.reload}
        log.warning("a table changed without events, it starts again", extra=extra)
    text = "" if layout is None else layout.to_text()
    return SchemaChange(schema, text, found.renamed, found.defaults, bool(found.reload))


def _differs(feed: TableFeed, look: Layout) -> bool:
    return Layout.from_text(feed.layout) != look


def signed(oid: int) -> int:
    """As the codec reads it: a signed 32-bit number."""
    return oid - 2**32 if oid >= 2**31 else oid


def parse_relation(m: bytes, at: int) -> tuple[int, TableId, set[str], catalog.Signature]:
    """(oid, table, columns of the replica identity, (name, type oid, typmod) of each column) of a Relation message
    whose oid stands at `at`."""
    (oid,) = struct.unpack_from(">I", m, at)
    schema, at = _text(m, at + 4)
    name, at = _text(m, at)
    (count,) = struct.unpack_from(">h", m, at + 1)
    at += 3
    columns, flagged = [], set()
    for _ in range(count):
        flags = m[at]
        column, at = _text(m, at + 1)
        type_oid, typmod = struct.unpack_from(">Ii", m, at)
        at += 8
        columns.append((column, type_oid, typmod))
        if flags & 1:
            flagged.add(column)
    return oid, TableId(schema or "pg_catalog", name), flagged, tuple(columns)


def _text(m: bytes, at: int) -> tuple[str, int]:
    end = m.index(0, at)
    return m[at:end].decode(), end + 1
