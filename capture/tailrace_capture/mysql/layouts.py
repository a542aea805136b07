"""Layouts of captured tables as the stream meets them: which plan reads the rows behind a table map, and what a change
of layout means for the table's schema.

A table map that agrees with the schema at hand changes nothing. Else the catalogue is asked: if it agrees, it gives the
new schema; if not (it is ahead of the stream), the table map alone does.
"""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from tailrace_capture.feed import Feed
from tailrace_capture.mysql import catalog, images, plan
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.binlog import Query
from tailrace_capture.mysql.connection import ask, is_mariadb, literal, server_version
from tailrace_capture.mysql.native import UTF8, Charsets
from tailrace_capture.source import TableFeed
from tailrace_schemas.errors import StopError, TableStopError
from tailrace_schemas.position import FilePlace
from tailrace_schemas.table import Engine, TableId, TableSchema

_TEXT_CODECS = {
    "latin1": "cp1252",
    "binary": "utf-8",
    "gbk": "gbk",
    "big5": "big5",
    "ujis": "euc_jp",
    "sjis": "shift_jis",
}


class Layouts:
    """`side`: an SQL session of the stream's own."""

    def __init__(self, side: Connection[Any], charsets: Charsets) -> None:
        self._side, self._charsets = side, charsets
        self._mariadb = is_mariadb(side)
        self._engine: Engine = "mariadb" if self._mariadb else "mysql"
        self._altered: set[TableId] = set()

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
            return table_feed
        schema = self.describe(layout.table)
        if schema is None or plan.differences(schema, layout, self._charsets):
            schema = plan.schema_of_map(layout, table_feed.schema, self._engine, self._charsets)
        if table_feed.buffer.judged:
            # Chunks may have been read under the newer schema already: see `Stream._decide`.
            return TableFeed(schema, table_feed.topic, table_feed.key_id, table_feed.value_id, table_feed.buffer)
        return self._change(table_feed.schema, schema, feed)

    def _change(self, old: TableSchema, new: TableSchema, feed: Feed) -> TableFeed:
        """Announce the schema; a column that came with a value of its own for the rows already there makes the table
        start again, since no event carries those values."""
        changed = feed.change_schema(new)
        self._altered.discard(new.table)
        names = {column.name for column in old.columns}
        added = [column for column in new.columns if column.name not in names]
        if added and self._fills_rows(
            new.table, [c.name for c in added if c.nullable], any(not c.nullable for c in added)
        ):
            feed.reload(new.table)
        return changed

    def _fills_rows(self, table: TableId, nullable: list[str], required: bool) -> bool:
        if required:
            return True
        names = ", ".join(literal(name) for name in nullable)
        found = ask(
            self._side,
            "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE (TABLE_SCHEMA, TABLE_NAME) = (%s, %s)"
            f" AND COLUMN_NAME IN ({names}) AND (COLUMN_DEFAULT IS NULL OR COLUMN_DEFAULT = 'NULL')"
            " AND EXTRA NOT LIKE '%%GENERATED%%' AND EXTRA NOT LIKE '%%PERSISTENT%%'",
            tuple(table),
        )
        return int(found[0][0]) < len(nullable)

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

    def altered(self, tables: list[TableId]) -> None:
        """An ALTER has passed: the next table map tells, or the catalogue once the stream is at the end of the log."""
        self._altered.update(tables)

    def refresh(self, table: TableId, feed: Feed) -> None:
        """Take the catalogue's description now."""
        try:
            schema = self.describe(table)
        except TableStopError as error:
            feed.stop_table(table, error)
            return
        if schema is not None and schema != feed.tables[table].schema:
            feed.change_schema(schema)

    def idle(self, feed: Feed, place: FilePlace) -> None:
        """The stream is at the end of the log, `place`: altered tables that no row has touched since get their new
        schema, if the log still ends there (else a row of another layout may be on its way)."""
        for table in [table for table in self._altered if table in feed.tables]:
            old = feed.tables[table].schema
            try:
                schema = self.describe(table)
            except TableStopError as error:
                feed.stop_table(table, error)
                continue
            if schema is not None and schema != old and log_end(self._side) == place:
                self._change(old, schema, feed)
        self._altered.clear()

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
