"""MySQL and MariaDB for tests: statements, the binary log events they leave, and our events read back by fastavro."""

import importlib.util
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import fastavro

from tailrace_capture.mysql import binlog, catalog, connection, images, jsonb, plan, protocol, rows, select_rows
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.native import Charsets
from tailrace_capture.mysql.source import MySqlSettings, MySqlSource
from tailrace_capture.source import TableFeed
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_schemas.avro import key_schema, value_schema
from tailrace_schemas.mapping import TableSelection
from tailrace_schemas.position import FilePlace
from tailrace_schemas.table import TableId, TableSchema
from tailrace_schemas.uri import DatabaseUrl, parse_database_url
from tailrace_schemas.wire import frames, text_bytes

PREFIX = "p"


def mysql_source(url: str, server_id: int = 0, tables: tuple[str, ...] = ()) -> MySqlSource:
    """A source of every table of the URL's database, or of `tables`."""
    address = parse_database_url(url)
    wanted = tables or (f"{address.database}.*",)
    selection = TableSelection.parse("mysql", wanted)
    number = server_id or 1_000_000 + zlib.crc32(url.encode()) % 1_000_000
    return MySqlSource(MySqlSettings(address, number, "t", selection.selects))


VALUE_ID, KEY_ID = 7, 8
HEAD = text_bytes("1") + text_bytes("mysql") + text_bytes(PREFIX)


@dataclass
class Sql:
    """One session on a database of its own."""

    url: str
    address: DatabaseUrl = field(init=False)

    def __post_init__(self) -> None:
        self.address = parse_database_url(self.url)
        self.connection = connection.connect(self.address, database=True)

    @property
    def database(self) -> str:
        return self.address.database

    @property
    def mariadb(self) -> bool:
        return connection.is_mariadb(self.connection)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        out: list[tuple[Any, ...]] = []
        for statement in statements:
            out = connection.run(self.connection, statement)
        return out

    def place(self) -> FilePlace:
        """The end of the binary log."""
        for words in ("SHOW BINARY LOG STATUS", "SHOW BINLOG STATUS", "SHOW MASTER STATUS"):
            try:
                file, pos = self.run(words)[0][:2]
            except Exception:  # noqa: BLE001 - the words differ by version
                continue
            return FilePlace(str(file), int(pos))
        raise AssertionError("no binary log")

    def events(self, place: FilePlace) -> list[bytes]:
        """Whole events from `place` to the end, with checksums where the log has them."""
        client = protocol.DumpClient(
            lambda: connection.connect(self.address), 4_000_000_000 + id(self) % 1000, until_end=True
        )
        try:
            client.from_place(place)
            return list(protocol.events(client, 20))
        finally:
            client.close()

    def table(self, name: str) -> TableSchema:
        table = TableId(self.database, name)
        found = catalog.read_catalogue(self.connection, [table])
        if table in found.refused:
            raise found.refused[table]
        return found.tables[table]

    def close(self) -> None:
        if self.connection.open:
            self.connection.close()


def table_feed(schema: TableSchema) -> TableFeed:
    buffer = TopicBuffer("t", 1, not schema.key, Clock())
    feed = TableFeed(schema, "t", KEY_ID if schema.key else 0, VALUE_ID, buffer)
    buffer.table = feed
    return feed


class Decoder:
    """Runs events through the row codec and reads what it wrote with fastavro."""

    def __init__(self, charsets: Charsets, mariadb: bool, *schemas: TableSchema, coder: Any = rows) -> None:
        self.charsets, self.mariadb = charsets, mariadb
        self.codec = coder
        self.feeds = {schema.table: table_feed(schema) for schema in schemas}
        self.coder = coder.RowCoder(HEAD, self.lookup, self.decide, jsonb.to_text, jsonb.patch)
        self.decide_with: Callable[[bytes | None], bool] = lambda key: True
        self.coder.set_time(1_700_000_000_000_000_000)

    def decide(self, plan: images.Plan, key: bytes | None) -> bool:
        return self.decide_with(key)

    def lookup(self, body: bytes) -> images.Plan | None:
        feed = self.feeds.get(tm.table_name(body))
        if feed is None:
            return None
        layout = tm.parse_table_map(body, self.mariadb)
        if not layout.named:
            layout = plan.completed(layout, feed.schema, self.charsets)
        found = plan.differences(feed.schema, layout, self.charsets)
        assert not found, found
        return plan.plan_of(feed, layout, self.charsets)

    def feed(self, events: Iterable[bytes], skip: int = 0) -> None:
        """Every transaction's rows; other events are looked through for payloads and compression."""
        for feed in self.feeds.values():
            feed.buffer.clock.transaction += 1
        self.coder.begin(1_600_000_000_000_000, 1, b"gtid", b"binlog.000001", 4, 5, b"tx", skip)
        checksum = 0
        for event in events:
            kind = event[4]
            if kind == binlog.FORMAT_DESCRIPTION:
                checksum = 4 if binlog.parse_format_description(event).checksum else 0
            elif kind == binlog.TRANSACTION_PAYLOAD:
                inner = binlog.payload_events(event[19 : len(event) - checksum])
                at = 0
                while at < len(inner):
                    size = int.from_bytes(inner[at + 9 : at + 13], "little")
                    if is_row_event(inner[at + 4]):
                        self.coder.run(inner, at, at + size, 0, 0)
                    at += size
            elif binlog.ROWS_COMPRESSED_FIRST <= kind <= binlog.ROWS_COMPRESSED_LAST:
                plain = binlog.plain_rows_event(event[: len(event) - checksum])
                self.coder.run(plain, 0, len(plain), 0, 0)
            elif is_row_event(kind):
                self.coder.run(event, 0, len(event), 0, checksum)

    def load(self, sql: Sql, schema: TableSchema, suffix: str = "") -> None:
        """All rows of the table as events of op r."""
        feed = self.feeds[schema.table]
        self.coder.begin_load(1_600_000_000_000_000, b"binlog.000001", 4, b"0:1")
        text = plan.text_plan(feed, feed.buffer)
        statement = select_rows.select_statement(schema) + suffix
        for data, at, end in select_rows.row_packets(sql.connection, statement):
            assert self.coder.text_rows(text, data, at, end, feed.buffer, {}) == end

    def events(self, table: TableId) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
        """(key, value) of what was written since the last call."""
        feed = self.feeds[table]
        value = fastavro.parse_schema(json.loads(json.dumps(value_schema(PREFIX, feed.schema))))
        key = key_schema(PREFIX, feed.schema)
        parsed_key = None if key is None else fastavro.parse_schema(key)
        out = []
        for _, _, data in feed.buffer.take():
            for key_bytes, value_bytes in frames(data):
                out.append((read(parsed_key, key_bytes, KEY_ID), read(value, value_bytes, VALUE_ID)))
        return out


def decoder_of(sql: Sql, *schemas: TableSchema) -> Decoder:
    return Decoder(catalog.read_charsets(sql.connection), sql.mariadb, *schemas)


def plain_rows() -> ModuleType:
    """The row codec and what it is made of, run as plain Python, whatever form the imported ones have."""
    names = [f"tailrace_capture.mysql.{part}" for part in ("values", "images", "rows")]
    imported = {name: sys.modules[name] for name in names}
    try:
        for name in names:
            path = Path(connection.__file__).parent / f"{name.rpartition('.')[2]}.py"
            loader = SourceFileLoader(name, str(path))
            spec = importlib.util.spec_from_loader(name, loader)
            assert spec is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            loader.exec_module(sys.modules[name])
        return sys.modules[names[-1]]
    finally:
        sys.modules.update(imported)


def read(schema: Any, data: bytes | None, schema_id: int) -> dict[str, Any] | None:
    """One datum behind its 5-byte header; all bytes must be used."""
    if data is None:
        return None
    assert data[:5] == b"\0" + schema_id.to_bytes(4, "big")
    stream = io.BytesIO(data[5:])
    out = fastavro.schemaless_reader(stream, schema, None)
    assert stream.read() == b""
    assert isinstance(out, dict)
    return out


def is_row_event(kind: int) -> bool:
    return kind in (19, 23, 24, 25, 30, 31, 32, 39)
