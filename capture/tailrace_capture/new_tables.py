"""Tables that the log does not know yet: how they are taken up, at a start and while the stream runs.

A table is announced, and then loaded like any other: changes that come before a chunk of it has a snapshot are dropped
(rule B1), and no snapshot is taken before the announcement is in the log. So rows written before it was noticed come by
its load. While a half published transaction may come again none is taken up: its events are counted (rule A2).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tailrace_capture.feed import Feed
from tailrace_capture.load_state import TableLoad
from tailrace_capture.publish import Publisher
from tailrace_capture.snapshot import LoadPlanner
from tailrace_capture.source import SchemaChange
from tailrace_capture.tables import TableRegister
from tailrace_schemas.table import TableId, TableSchema

log = logging.getLogger("tailrace.capture")

GONE = frozenset({"TABLE_DROPPED", "TABLE_GONE"})  # stops that end when the table is there again


@dataclass(slots=True)
class NewTables:
    """`loads`: new tables are loaded; else (mode cdc) their changes are captured from here on. `estimates`: rows of the
    tables in load, as the server reckons."""

    feed: Feed
    register: TableRegister
    planner: LoadPlanner
    publisher: Publisher
    loads: bool
    estimate: Callable[[TableId], int]
    estimates: dict[TableId, int] = field(default_factory=dict)
    _known: set[TableId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._known = set(self.publisher.loads)
        self.feed.gone |= {t for t, load in self.publisher.loads.items() if load.error.get("code") in GONE}
        self.feed.wants, self.feed.take_up = self.wants, self.take_up

    def wants(self, table: TableId) -> bool:
        """Whether a table of the selection, there at the source, is to be taken up now."""
        if table in self.feed.tables or self.feed.pending_open is not None:
            return False
        return table not in self._known or (self.loads and table in self.feed.gone)

    def add(self, schema: TableSchema, layout: str) -> bool:
        """Announce a table that the log does not know. Gives whether its rows come in slices, behind a reload marker
        that is still to be written (rule B13)."""
        table = schema.table
        self._known.add(table)
        table_feed = self.register.describe(schema, layout)
        load = self.planner.plan(table_feed) if self.loads else TableLoad("streaming")
        self.feed.announce(table_feed, load)
        return self.loads and (not schema.key or len(self.planner.together(table)) > 1)

    def take_up(self, schema: TableSchema, layout: str) -> None:
        """While the stream runs: a table that `wants`. One that was gone and is there again starts again."""
        table = schema.table
        self.feed.refused.pop(table, None)
        self.planner.tie([schema])
        self.estimates[table] = self.estimate(table)
        log.info("table taken up", extra={"table": str(table)})
        if table in self._known:
            self.feed.gone.discard(table)
            self.register.describe(schema, layout)
            self.feed.change_schema(SchemaChange(schema, layout, renamed={}, reload=True))
        elif self.add(schema, layout):
            alone = len(self.planner.together(table)) == 1
            (self.feed.start if alone else self.feed.reload)(table)
