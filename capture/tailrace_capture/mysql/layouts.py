"""Layouts of captured tables as the stream meets them: which plan reads the rows behind a table map, and what a change
of layout means for the table's schema.

A table map that agrees with the schema at hand changes nothing. Else the catalogue is asked: if it agrees, it gives the
new schema; if not (it is ahead of the stream), the table map alone does.
"""

from __future__ import annotations

import re
import time
from typing import Any

from pymysql.connections import Connection

from tailrace_capture.feed import Feed
from tailrace_capture.mysql import catalog, images, plan
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.binlog import Query
from tailrace_capture.mysql.connection import ask, is_mariadb, literal, server_version
from tailrace_capture.mysql.native import UTF8, Charsets
from tailrace_capture.mysql.widening import keeps_values
from tailrace_capture.source import SchemaChange, TableFeed
from tailrace_schemas.errors import StopError, TableStopError
from tailrace_schemas.position import FilePlace
from tailrace_schemas.table import Column, Engine, TableId, TableSchema

_TEXT_CODECS = {
    "latin1": "cp1252",
    "binary": "utf-8",
    "gbk": "gbk",
    "big5": "big5",
    "ujis": "euc_jp",
    "sjis": "shift_jis",
}
# Words of ALTER statements since a table's layout was last compared; not those that speak of keys and the like.
_WORDS = re.compile(
    r"\b(default|(?:add|drop)(?!\s+(?:index|key|primary|foreign|constraint|check|partition|unique|fulltext|spatial)\b))\b"
)
_COLUMN_WORDS = {"add", "drop"}
LOOK_SECONDS = 1.0


class Layouts:
    """`side`: an SQL session of the stream's own."""

    def __init__(self, side: Connection[Any], charsets: Charsets) -> None:
        self._side, self._charsets = side, charsets
        self._mariadb = is_mariadb(side)
        self._engine: Engine = "mariadb" if self._mariadb else "mysql"
        self._seen: list[TableSchema] = []
        self._seen_at: FilePlace | None = None
        self._looked_at = -LOOK_SECONDS

    def plan(self, body: bytes, feed: Feed) -> images.Plan | None:
        """The plan for a TABLE_MAP body; None when the table is not captured, or stops here."""
        table = tm.table_name(body)
        table_feed = feed.tables.get(table)
        if table_feed is None:
            return None
        try:
            layout = tm.parse_table_map(body, self._mariadb)
            return plan.plan_of(self._fitting(table_feed, layout, feed), layout, self._charsets)
        except TableStopError as error:
            error.table = table
            feed.stop_table(table, error)
            return None

    def _fitting(self, table_feed: TableFeed, layout: tm.TableMap, feed: Feed) -> TableFeed:
        """A TableFeed whose schema agrees with the layout."""
        if not plan.differences(table_feed.schema, layout, self._charsets):
            if table_feed.layout:
                self._unchanged(table_feed, feed)
            return table_feed
        schema = self.describe(layout.table)
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

    def describe(self, table: TableId) -> TableSchema | None:
        """
        Raises:
            TableStopError: it has a column of a type that is not known.
        """
        found = catalog.read_catalogue(self._side, [table])
        if table in found.refused:
            raise found.refused[table]
        return found.tables.get(table)

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

    def altered(self, tables: list[TableId], text: str, feed: Feed) -> None:
        """An ALTER has passed: the next table map tells, or the catalogue (`settle`). Until then its telling words are
        the table's note in the log."""
        for table in tables:
            words = {"altered", *_WORDS.findall(text.lower()), *feed.tables[table].layout.split()}
            feed.note_layout(table, " ".join(sorted(words)))
        self._seen = [schema for schema in self._seen if schema.table not in tables]  # seen before this
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
            feed.change_schema(SchemaChange(schema, renamed={}, reload=True))

    def settle(self, feed: Feed, place: FilePlace) -> None:
        """The stream stands between two groups, and everything before `place` has passed. Altered tables that no row
        has touched since get the description that the catalogue had when the source's log ended there or before."""
        if feed.settled:
            return
        if self._seen_at is None:
            self._look(feed)
        if self._seen_at is None or not self._seen_at.at_or_before(place):
            return
        for schema in self._seen:
            now = feed.tables.get(schema.table)
            if now is None or not now.layout:
                continue
            if schema == now.schema:
                self._unchanged(now, feed)
            else:
                self._change(now, schema, feed)
        self._seen, self._seen_at = [], None

    def _look(self, feed: Feed) -> None:
        altered = [now.schema.table for now in feed.tables.values() if now.layout]
        feed.settled = not altered
        if not altered or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for table in altered:
            try:
                schema = self.describe(table)
            except TableStopError as error:
                feed.stop_table(table, error)
                continue
            if schema is not None:
                self._seen.append(schema)
        self._seen_at = log_end(self._side)

    @staticmethod
    def _unchanged(table_feed: TableFeed, feed: Feed) -> None:
        """Altered, and looks as before; yet a column may have gone and come back without its values."""
        table = table_feed.schema.table
        words = set(table_feed.layout.split())
        feed.note_layout(table, "")
        if words >= _COLUMN_WORDS:
            feed.reload(table)

    def text(self, query: Query) -> str:
        """A statement's text, by the character set that its writer used."""
        found = self._charsets.collations.get(query.charset)
        if found is None or found.charset in UTF8:
            return query.text.decode("utf-8", "surrogateescape")
        decode = self._charsets.decoders.get(found.charset)
        if decode is not None:
            return decode(query.text).decode()
        return query.text.decode(_TEXT_CODECS.get(found.charset, "utf-8"), "surrogateescape")


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
