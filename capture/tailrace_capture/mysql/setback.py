"""Set-back of a chunk read without a lock on MySQL (rule B7).

The view may already show transactions that the executed set did not list yet. The log is read ahead from where the
stream stood to the place read after the view. Each key that a transaction outside the set touched there goes back
to its first image before, so that the rows are exactly those of the set; the stream publishes those transactions later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pymysql.connections import Connection

from tailrace_capture.mysql import binlog as bl
from tailrace_capture.mysql import ddl, images, rows
from tailrace_capture.mysql import table_map as tm
from tailrace_capture.mysql.ahead import Ahead
from tailrace_capture.mysql.connection import ask
from tailrace_capture.mysql.held import Held
from tailrace_capture.mysql.keys import Bound, KeyReader, condition, in_range, literal_of
from tailrace_capture.mysql.layouts import UNPROVEN
from tailrace_capture.mysql.native import Charsets
from tailrace_capture.mysql.plan import completed, differences, plan_of
from tailrace_capture.mysql.protocol import DumpClient, events
from tailrace_capture.mysql.stop import stop_error
from tailrace_capture.mysql.xa import ROW_EVENTS, row_pieces
from tailrace_capture.source import TableFeed, TableMovedError
from tailrace_log.frames import TopicBuffer
from tailrace_schemas.errors import SourceUnavailableError
from tailrace_schemas.gtid import GtidSet
from tailrace_schemas.position import FilePlace

READ_AHEAD_SECONDS = 60.0


class SetBack:
    """One chunk's. `start`, `end`: the part of the log to read ahead; `listed`: the boundary E1; `prepared`: rows of XA
    transactions prepared before `start`; `look_back` finds those of older ones."""

    def __init__(
        self,
        table: TableFeed,
        listed: GtidSet,
        start: FilePlace,
        end: FilePlace,
        prepared: dict[bytes, Held],
        look_back: Callable[[bytes], Held | None],
        dump: Callable[[], DumpClient],
        coder: Callable[[Callable[[bytes], images.Plan | None]], rows.RowCoder],
        connect: Callable[[], Connection[Any]],
        charsets: Charsets,
        ahead: Ahead,
    ) -> None:
        self._table, self._listed, self._start, self._end = table, listed, start, end
        self._prepared = dict(prepared)
        self._look_back = look_back
        self._dump, self._connect, self._charsets, self._ahead = dump, connect, charsets, ahead
        self._coder = coder(self._lookup)
        self._coder.collect = {}
        self._plan: images.Plan | None = None
        self._open: dict[bytes, Held] = {}

    def touched(self, low: Bound | None, high: Bound | None) -> dict[bytes, bytes | None]:
        """Key → its row image before the first transaction outside the set, None where there was none; keys outside the
        chunk are of no harm to rows, and left out where they would be put back.

        Raises:
            SourceUnavailableError: the log could not be read ahead.
            TableMovedError: the table has another layout in it.
        """
        if not self._start.at_or_before(self._end) or self._start == self._end:
            return {}
        client = self._dump()
        try:
            client.from_place(self._start)
            self._read(client)
        finally:
            client.close()
        found = self._coder.collect or {}
        return self._inside(found, low, high)

    def put_back(self, touched: dict[bytes, bytes | None], coder: rows.RowCoder, buffer: TopicBuffer) -> None:
        """The rows as they were."""
        if self._plan is None:
            return
        for image in touched.values():
            if image is not None:
                coder.image_row(self._plan, image, buffer)

    # --- reading ahead

    def _read(self, client: DumpClient) -> None:
        deadline = time.monotonic() + READ_AHEAD_SECONDS
        file, pos = self._start.file, self._start.pos
        checksum = 4 if client.checksum else 0
        group = Held()
        outside = kept = False
        for event in events(client, 10.0):
            if time.monotonic() > deadline:
                raise SourceUnavailableError("the log could not be read ahead in time")
            header = bl.parse_header(event)
            if header.type == bl.FORMAT_DESCRIPTION:
                checksum = 4 if bl.parse_format_description(event).checksum else 0
            body = event[bl.HEADER : len(event) - checksum]
            if header.type == bl.ROTATE:
                rotate = bl.parse_rotate(body)
                file, pos = rotate.file, rotate.pos
            elif header.type in (bl.HEARTBEAT, bl.HEARTBEAT_V2):
                if self._beyond(file, max(pos, pos & ~0xFFFFFFFF | header.next_pos)):
                    return
            elif not header.flags & bl.FLAG_ARTIFICIAL and header.next_pos:
                wide = pos & ~0xFFFFFFFF | header.next_pos
                pos = wide if wide >= pos else wide + (1 << 32)
            if header.type in (bl.GTID, bl.GTID_TAGGED):
                gtid = bl.parse_tagged_gtid(body) if header.type == bl.GTID_TAGGED else bl.parse_mysql_gtid(body)
                outside = kept = not self._listed.has(gtid.source, gtid.number)
                group = Held()
            elif header.type in ROW_EVENTS and not kept:
                pass
            elif pieces := row_pieces(event, header, body, checksum):
                for piece in pieces:
                    group.add(piece)
            elif header.type == bl.QUERY:
                # Rows of an XA transaction count when it is decided, which may be outside though its prepare is not.
                kept |= self._statement(body, outside) == "xa start"
            elif header.type == bl.XA_PREPARE:
                prepare = bl.parse_xa_prepare(body)
                if not prepare.one_phase:
                    self._open[prepare.xid], group = group, Held()
            elif header.type == bl.INCIDENT:
                raise bl.parse_incident(body)
            ends = (bl.XID, bl.TRANSACTION_PAYLOAD, bl.XA_PREPARE)
            if outside and (header.type in ends or (header.type == bl.QUERY and _is_commit(body))):
                self._collect(group)
                group = Held()
            if self._beyond(file, pos):
                return

    def _beyond(self, file: str, pos: int) -> bool:
        return self._end.at_or_before(FilePlace(file, pos))

    def _statement(self, body: bytes, outside: bool) -> str:
        """The statement's kind."""
        query = bl.parse_query(body)
        statement = ddl.parse_statement(query.text.decode("utf-8", "surrogateescape"), query.database.decode())
        if statement.kind == "xa commit" and outside:
            self._collect(self._prepared_rows(statement.xid))
        elif self._table.schema.table in statement.tables and statement.kind not in ("data", "alter"):
            raise TableMovedError(self._table.schema, UNPROVEN)
        return statement.kind

    def _prepared_rows(self, xid: bytes) -> Held:
        for known in (self._open, self._prepared):
            if xid in known:
                return known[xid]
        held = self._look_back(xid)
        return Held() if held is None else held

    def _collect(self, group: Held) -> None:
        try:
            for piece in group.pieces():
                self._coder.run(piece.data, piece.start, piece.end, piece.gap, piece.trailer)
        except (images.TornRowError, images.PartialImageError, images.InexactKeyError) as error:
            raise stop_error(error, self._table.schema.table) from error

    def _lookup(self, body: bytes) -> images.Plan | None:
        schema = self._table.schema
        if tm.table_name(body) != schema.table:
            return None
        layout = tm.parse_table_map(body, False)
        if not layout.named:
            layout = self._completed(layout)
        if differences(schema, layout, self._charsets):
            raise TableMovedError(schema, UNPROVEN)
        self._plan = plan_of(self._table, layout, self._charsets)
        self._coder.collect_plan = self._plan
        return self._plan

    def _completed(self, layout: tm.TableMap) -> tm.TableMap:
        """The chunk's reader compares the catalogue with the schema: it holds for all that is read ahead here if no
        statement changed the table there."""
        schema = self._table.schema
        if self._ahead.changes(schema.table, self._start, self._end):
            raise TableMovedError(schema, UNPROVEN)
        return completed(layout, schema, self._charsets)

    # --- which keys belong to the chunk

    def _inside(
        self, found: dict[bytes, bytes | None], low: Bound | None, high: Bound | None
    ) -> dict[bytes, bytes | None]:
        """Without the keys that lie outside the chunk."""
        if not found or (low is None and high is None):
            return found
        keys = KeyReader(self._table.schema)
        out: dict[bytes, bytes | None] = {}
        connection: Connection[Any] | None = None
        for key, image in found.items():
            texts = keys.texts(key)
            inside = in_range(keys.columns, texts, low, high)
            if inside is None:
                connection = connection or self._connect()
                inside = self._ask(connection, keys, texts, low, high)
            if inside:
                out[key] = image
        if connection is not None:
            connection.close()
        return out

    def _ask(
        self, connection: Connection[Any], keys: KeyReader, texts: Sequence[str], low: Bound | None, high: Bound | None
    ) -> bool:
        named = ", ".join(
            f"{literal_of(column, text)} AS `{column.name.replace('`', '``')}`"
            for column, text in zip(keys.columns, texts, strict=True)
        )
        return bool(ask(connection, f"SELECT 1 FROM (SELECT {named}) k WHERE {condition(keys.columns, low, high)}"))


def _is_commit(body: bytes) -> bool:
    return bl.parse_query(body).text.strip().upper() == b"COMMIT"
