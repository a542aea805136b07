"""The publication while the stream runs: tables that leave it are noticed, tables that appear join it.

The catalogue is looked at every few seconds; it is ahead of the stream. What follows from a look is done between two
transactions of the stream (`Feed.request`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import psycopg
from psycopg import sql

from tailrace_capture.feed import Feed
from tailrace_capture.postgres import catalog, preflight, slot
from tailrace_capture.postgres.catalog import Described, Rows
from tailrace_schemas.errors import StopError, TableStopError
from tailrace_schemas.table import TableId

LOCK_WAIT = "1s"  # ALTER PUBLICATION waits for DDL on the table; the stream stands meanwhile


class Publication:
    """`described`: the tables as they were read last, shared with the stream. `added(oids)` is called once tables have
    joined, before anything of them is read; `met(oid)` once the core knows the table, `lost(table)` before it stops.
    Made before the stream starts."""

    def __init__(
        self,
        side: Rows,
        feed: Feed,
        described: dict[TableId, Described | None],
        name: str,
        selects: Callable[[TableId], bool],
        added: Callable[[list[int]], None],
    ) -> None:
        self._side, self._feed, self._described, self._name = side, feed, described, name
        self._selects, self._added = selects, added
        self.met: Callable[[int], None] = lambda _oid: None
        self.lost: Callable[[TableId], None] = lambda _table: None
        self._members = slot.members(side, name)

    def look(self) -> None:
        """Between any two messages of the stream."""
        there = {table: oid for oid, table in catalog.all_tables(self._side) if self._selects(table)}
        self._look_for_lost(there)
        wanted = [(oid, table) for table, oid in there.items() if self._feed.wants(table)]
        if wanted:
            self._feed.request(functools.partial(self.take_up, wanted))
        for table in self._feed.refused.keys() - there.keys():
            del self._feed.refused[table]

    # --- tables that leave

    def _look_for_lost(self, there: dict[TableId, int]) -> None:
        now = slot.members(self._side, self._name)
        for table in list(self._feed.tables):
            known = self._described.get(table)
            if table not in there:
                self._feed.request(functools.partial(self._gone, table))
            elif known is None or known.oid != there[table]:
                self._feed.request(functools.partial(self._replaced, there[table], table))
            elif now is not None and (before := self._membership(table)) and now.get(table) != before:
                self._feed.request(functools.partial(self._left, table))

    def _membership(self, table: TableId) -> int:
        """As it was when the stream began, or the table joined; 0 for none."""
        return 0 if self._members is None else self._members.get(table, 0)

    def _replaced(self, oid: int, table: TableId) -> None:
        """Another table has this name, and the stream has shown no row of it yet: the table starts again."""
        known = self._described.get(table)
        if table in self._feed.tables and (known is None or known.oid != oid):
            self._gone(table)
            self.take_up([(oid, table)])

    def _gone(self, table: TableId) -> None:
        self.lost(table)
        self._feed.table_gone(table)

    def _left(self, table: TableId) -> None:
        """A table that was out of the publication, even for a moment, has a hole in its stream."""
        error = TableStopError(
            "its changes were not published",
            code="PUBLICATION_CHANGED",
            hint="start again: the table is added to the publication and loaded anew",
            table=table,
            detail=f"somebody has taken it out of publication {self._name}",
        )
        self.lost(table)
        self._feed.stop_table(table, error)

    # --- tables that appear

    def take_up(self, tables: list[tuple[int, TableId]]) -> None:
        """Those of `tables` that are still wanted join, and are taken up. In the stream's thread, between two of its
        transactions."""
        wanted = [(oid, table) for oid, table in tables if self._feed.wants(table)]
        for oid, table in wanted:
            if not self._may_join(oid, table):
                continue
            self._added([oid])
            found = catalog.describe(self._side, [(oid, table)])
            if found:
                self._described[table] = found[0]
                self._feed.take_up(found[0].schema, found[0].layout.to_text())
                self.met(oid)

    def _may_join(self, oid: int, table: TableId) -> bool:
        """Whether the table is in the publication now; if it cannot be, the status says why."""
        for finding in preflight.harmful(self._side, [(oid, table)]):
            self._feed.refuse(table, TableStopError(finding.message, code=finding.code, hint=finding.remedy))
            return False
        try:
            with self._side.transaction():
                self._side.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_WAIT))
                slot.add_table(self._side, self._name, table)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable):
            return False  # the next look tries again
        except StopError as error:
            self._feed.refuse(table, TableStopError(error.message, code=error.code, hint=error.hint))
            return False
        if self._members is not None:
            self._members |= {t: m for t, m in (slot.members(self._side, self._name) or {}).items() if t == table}
        return True
