"""Layouts of captured tables as the stream meets them: which plan reads the rows behind a table map, and what a change
of layout means for the table's schema.

A table map that agrees with the schema at hand changes nothing. Else the catalogue is asked: if it agrees, it gives the
new schema; if not (it is ahead of the stream), the table map alone does.

A table map without column names (binlog_row_metadata other than FULL, MySQL 5.7) is completed by a description that is
proven for its place: the one the log announced, as long as no statement has changed the table since; else the
catalogue's, if the log holds no such statement up to its end when the catalogue was read. Nothing else is decoded.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pymysql
from pymysql.connections import Connection

from tailrace_capture.feed import Feed
from tailrace_capture.mysql import catalog, ddl, follow, images, plan
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.ahead import Ahead, Found, concerns, statement_text
from tailrace_capture.mysql.binlog import Query
from tailrace_capture.mysql.connection import ask, classified, is_mariadb, literal, run, server_version, variable
from tailrace_capture.mysql.native import Charsets
from tailrace_capture.mysql.select_rows import table_sql
from tailrace_capture.mysql.widening import keeps_values
from tailrace_capture.source import SchemaChange, TableFeed
from tailrace_schemas.errors import StopError, TableStopError, TailraceError
from tailrace_schemas.position import FilePlace
from tailrace_schemas.table import Column, Engine, TableId, TableSchema

# Words of ALTER statements since a table's layout was last compared; not those that speak of keys and the like.
_WORDS = re.compile(
    r"\b(default|(?:add|drop)(?!\s+(?:index|key|primary|foreign|constraint|check|partition|unique|fulltext|spatial)\b))\b"
)
_COLUMN_WORDS = {"add", "drop"}
# In a table's note: the description is the catalogue's of some moment, and the stream has not met it yet; a statement
# has passed behind which rows may be laid out otherwise.
UNPROVEN, CHANGED = "unproven", "changed"
LOOK_SECONDS = 1.0
_BUSY_OR_GONE = {1146, 1205}  # no such table; lock wait timeout


class Layouts:
    """`side`: an SQL session of the stream's own. `ahead`: reads the log on from where the stream stands. `storage`:
    engine of each table, kept up to date."""

    def __init__(
        self, side: Connection[Any], charsets: Charsets, ahead: Ahead, storage: dict[TableId, str] | None = None
    ) -> None:
        self._side, self._charsets, self._ahead = side, charsets, ahead
        self._storage = {} if storage is None else storage
        self._named = variable(side, "binlog_row_metadata") == "FULL"
        self._changed: dict[TableId, FilePlace] = {}
        self._behind: dict[TableId, TableSchema | None] = {}
        self._waiting: list[TableFeed] = []
        self._waiting_for: FilePlace | None = None
        self._waited_at = -LOOK_SECONDS
        self._mariadb = is_mariadb(side)
        self._engine: Engine = "mariadb" if self._mariadb else "mysql"
        self._seen: list[TableSchema] = []
        self._seen_at: FilePlace | None = None
        self._looked_at = -LOOK_SECONDS

    def plan(self, body: bytes, feed: Feed, begun: FilePlace, here: FilePlace) -> images.Plan | None:
        """The plan for a TABLE_MAP body; None when the table is not captured, stops here, or its rows are of no use up
        to its next statement. `begun`: where the rows' transaction (of XA: its first part) begins; `here`: how far the
        stream has read."""
        table = tm.table_name(body)
        table_feed = feed.tables.get(table)
        if table_feed is None:
            return None
        try:
            layout = tm.parse_table_map(body, self._mariadb)
            known: TableSchema | None = None
            if not layout.named:
                known = self._proven(table_feed, begun, here)
                if known is None:
                    feed.reload(table)
                    return None
                layout = plan.completed(layout, known, self._charsets)
            return plan.plan_of(self._fitting(table_feed, layout, feed, known), layout, self._charsets)
        except TableStopError as error:
            error.table = table
            feed.stop_table(table, error)
            return None

    def _proven(self, now: TableFeed, begun: FilePlace, here: FilePlace) -> TableSchema | None:
        """The description by which rows of the present transaction were written. None: it is not certain, the table is
        being loaded, and another statement follows: chunks that are read from now on show these rows, up to there.

        Raises:
            TableStopError: it is not certain (code SCHEMA_UNKNOWN).
        """
        table, changed = now.schema.table, self._changed.get(now.schema.table)
        if changed is not None and not changed.at_or_before(begun):
            raise plan.schema_unknown(table, f"a statement at {changed} changed it inside a prepared transaction")
        found = self.describe(table)
        if not now.layout and found is not None and plan.same_rows(found, now.schema):
            return now.schema
        # The catalogue was read before the end of the log is asked for: what it shows stands before that end.
        later = self._ahead.changes(table, here, log_end(self._side))
        if not now.layout and later:
            return now.schema  # the catalogue is ahead
        if not now.layout:
            raise plan.schema_unknown(table, "the catalogue differs, and no statement in the log says why")
        known = self._followed(table, found, later)
        if known is not None:
            return known
        if later and now.buffer.judged:
            return None
        what = f"changed again at {later[0].place}" if later else "gone at the source"
        raise plan.schema_unknown(table, f"changed before this place, and {what}")

    def _followed(self, table: TableId, found: TableSchema | None, later: list[Found]) -> TableSchema | None:
        """The catalogue's description, taken back through the statements that the stream has not reached; or the one
        before, through those that have passed."""
        for change in reversed(later):
            if found is not None:
                found = follow.before(found, change.text) if change.statement.kind == "alter" else None
        return found or self._behind.get(table)

    def _fitting(
        self, table_feed: TableFeed, layout: tm.TableMap, feed: Feed, known: TableSchema | None = None
    ) -> TableFeed:
        """A TableFeed whose schema agrees with the layout. `known`: the description that does, if it is known."""
        if not plan.differences(table_feed.schema, layout, self._charsets):
            if table_feed.layout:
                self._unchanged(table_feed, feed)
            return table_feed
        schema = known or self.describe(layout.table)
        if schema is None or plan.differences(schema, layout, self._charsets):
            schema = plan.schema_of_map(layout, table_feed.schema, self._engine, self._charsets)
        if table_feed.buffer.judged:
            # Chunks may have been read under the newer schema already: see `Stream._decide`.
            return TableFeed(schema, table_feed.topic, table_feed.key_id, table_feed.value_id, table_feed.buffer)
        return self._change(table_feed, schema, feed)

    def _change(self, now: TableFeed, new: TableSchema, feed: Feed) -> TableFeed:
        """Announce the schema. The table starts again where no event carries what became of its rows: columns went and
        others came (renamed, or not: nobody tells), one came with values of its own, or values were converted."""
        old, words = now.schema, set(now.layout.split())
        here, before = {column.name for column in new.columns}, {column.name for column in old.columns}
        added = [column for column in new.columns if column.name not in before]
        converted = any(c.name in here and not keeps_values(c, new.column(c.name)) for c in old.columns)
        renamed: dict[str, str] | None = {} if added and before - here else None
        fills = bool(added) and ("default" in words or self._fills_rows(new.table, added))
        reload = converted or renamed is not None or fills or words >= _COLUMN_WORDS
        return feed.change_schema(SchemaChange(new, renamed=renamed, reload=reload))

    def _fills_rows(self, table: TableId, added: list[Column]) -> bool:
        if any(not column.nullable for column in added):
            return True
        names = ", ".join(literal(column.name) for column in added)
        found = ask(
            self._side,
            "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE (TABLE_SCHEMA, TABLE_NAME) = (%s, %s)"
            f" AND COLUMN_NAME IN ({names}) AND (COLUMN_DEFAULT IS NULL OR COLUMN_DEFAULT = 'NULL')"
            " AND EXTRA NOT LIKE '%%GENERATED%%' AND EXTRA NOT LIKE '%%PERSISTENT%%'",
            tuple(table),
        )
        return int(found[0][0]) < len(added)

    def text(self, query: Query) -> str:
        return statement_text(query, self._charsets)

    def describe(self, table: TableId) -> TableSchema | None:
        """
        Raises:
            TableStopError: it has a column of a type that is not known.
        """
        found = catalog.read_catalogue(self._side, [table])
        self._storage.update(found.storage)
        if table in found.refused:
            raise found.refused[table]
        return found.tables.get(table)

    def table_names(self) -> list[TableId]:
        return catalog.table_names(self._side, None)

    def new_table(self, table: TableId, feed: Feed) -> TableSchema | None:
        """The description of a table that appeared; None while there is none, or none that can be captured."""
        try:
            return self.describe(table)
        except TableStopError as error:
            feed.refuse(table, error)
            return None

    def exists(self, table: TableId) -> bool:
        return bool(
            ask(
                self._side,
                "SELECT 1 FROM information_schema.TABLES WHERE (TABLE_SCHEMA, TABLE_NAME) = (%s, %s)",
                tuple(table),
            )
        )

    def have_triggers(self, tables: tuple[TableId, ...]) -> bool:
        among = ", ".join(f"({literal(table.schema)}, {literal(table.name)})" for table in tables)
        return bool(tables) and bool(
            ask(
                self._side,
                "SELECT 1 FROM information_schema.TRIGGERS"
                f" WHERE (EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE) IN ({among}) LIMIT 1",
            )
        )

    def changed(self, statement: ddl.Statement, text: str, place: FilePlace, feed: Feed) -> list[TableId]:
        """Captured tables whose rows may be laid out otherwise behind the statement, whose group begins at `place`."""
        tables = [table for table in feed.tables if concerns(statement, table)]
        for table in tables:
            now = feed.tables[table]
            known = self._behind.get(table) if now.layout else now.schema
            followed = None if known is None or statement.kind != "alter" else follow.after(known, text)
            self._behind[table], self._changed[table] = followed, place
            feed.note_layout(table, " ".join(sorted({CHANGED, *now.layout.split()})))
        self._seen = [schema for schema in self._seen if schema.table not in tables]  # seen before this
        return tables

    def altered(self, tables: list[TableId], text: str, feed: Feed) -> None:
        """An ALTER has passed: the next table map tells, or the catalogue (`settle`). Until then its telling words are
        the table's note in the log."""
        for table in tables:
            words = {"altered", *_WORDS.findall(text.lower()), *feed.tables[table].layout.split()}
            feed.note_layout(table, " ".join(sorted(words)))
        feed.settled = False

    def replaced(self, table: TableId, feed: Feed) -> None:
        """Another table has taken this name: its rows are loaded."""
        try:
            schema = self.describe(table)
        except TableStopError as error:
            feed.stop_table(table, error)
            return
        if schema is None or schema == feed.tables[table].schema:
            feed.reload(table)
        else:
            feed.change_schema(SchemaChange(schema, UNPROVEN, renamed={}, reload=True))

    def settle(self, feed: Feed, place: FilePlace) -> None:
        """The stream stands between two groups, and everything before `place` has passed. Altered tables that no row
        has touched since get the description that the catalogue had when the source's log ended there or before."""
        self._meet(feed, place)
        if feed.settled:
            return
        if self._seen_at is None:
            self._look(feed)
        if self._seen_at is None or not self._seen_at.at_or_before(place):
            return
        for schema in self._seen:
            now = feed.tables.get(schema.table)
            if now is None or not is_altered(now):
                continue
            if schema == now.schema:
                self._unchanged(now, feed)
            else:
                self._change(now, schema, feed)
        self._seen, self._seen_at = [], None

    def _meet(self, feed: Feed, place: FilePlace) -> None:
        """Descriptions of the catalogue hold once everything before the log's end of a later moment has passed, and no
        statement on their table among it."""
        if self._waiting_for is None and time.monotonic() - self._waited_at >= LOOK_SECONDS:
            self._waited_at = time.monotonic()
            self._waiting = [now for now in feed.tables.values() if now.layout == UNPROVEN]
            self._waiting_for = log_end(self._side) if self._waiting else None
        if self._waiting_for is None or not self._waiting_for.at_or_before(place):
            return
        for now in self._waiting:
            if feed.tables.get(now.schema.table) is now and now.layout == UNPROVEN:
                feed.note_layout(now.schema.table, "")
        self._waiting, self._waiting_for = [], None

    def _look(self, feed: Feed) -> None:
        altered = [now.schema.table for now in feed.tables.values() if is_altered(now)]
        feed.settled = not altered
        if not altered or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for table in altered:
            try:
                schema = self.describe(table) if self._named else self._describe_at_rest(table)
            except TableStopError as error:
                feed.stop_table(table, error)
                continue
            if schema is not None:
                self._seen.append(schema)
        self._seen_at = log_end(self._side)

    def _describe_at_rest(self, table: TableId) -> TableSchema | None:
        """As `describe`, at a moment when every statement of the table in the log has ended: MySQL 8 shows an ALTER in
        the log before the catalogue does. While a transaction of ours uses the table none is under way. None also where
        one is, and where the table is gone: the next row tells, or the next look."""
        try:
            with classified("look at a table"):
                run(self._side, "SET SESSION lock_wait_timeout = 1")
                run(self._side, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                run(self._side, "START TRANSACTION")
                run(self._side, f"SELECT 1 FROM {table_sql(table)} LIMIT 0")
            return self.describe(table)
        except TailraceError as error:
            if isinstance(error.__cause__, pymysql.MySQLError) and error.__cause__.args[0] in _BUSY_OR_GONE:
                return None
            raise
        finally:
            ask(self._side, "ROLLBACK")

    @staticmethod
    def _unchanged(table_feed: TableFeed, feed: Feed) -> None:
        """Altered, and looks as before; yet a column may have gone and come back without its values."""
        table = table_feed.schema.table
        words = set(table_feed.layout.split())
        feed.note_layout(table, "")
        if words >= _COLUMN_WORDS:
            feed.reload(table)


def is_altered(table: TableFeed) -> bool:
    """An ALTER has passed that neither a table map nor the catalogue has explained yet."""
    return "altered" in table.layout.split()


def log_end(connection: Connection[Any]) -> FilePlace:
    """The end of the source's binary log now."""
    file, pos = binlog_status(connection)[:2]
    return FilePlace(str(file), int(pos))


def binlog_status(connection: Connection[Any]) -> tuple[Any, ...]:
    """File, position, … of SHOW MASTER STATUS, under the name that the server knows.

    Raises:
        StopError: the binary log is off (code LOG_BIN), or the user may not ask (GRANT).
    """
    new_words = not is_mariadb(connection) and server_version(connection) >= (8, 2)
    found = ask(connection, "SHOW BINARY LOG STATUS" if new_words else "SHOW MASTER STATUS")
    if not found:
        raise StopError("the source writes no binary log", code="LOG_BIN", hint="start the server with --log-bin")
    return found[0]
