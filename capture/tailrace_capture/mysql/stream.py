"""The binary log as a stream of transactions: row events go to the compiled codec in ranges, the rest is read here.

A transaction's rows are held until its end is there (its savepoints and its rollback are then known); one too big to
hold is handed on as it comes. XA transactions are held from their prepare to their decision (rule A5).
`run` is the loop; `_group` is what is known of the transaction being read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tailrace_capture.feed import Feed
from tailrace_capture.mysql import binlog as bl
from tailrace_capture.mysql import ddl, images, jsonb, rows
from tailrace_capture.mysql.held import Held, Piece
from tailrace_capture.mysql.layouts import UNPROVEN, Layouts, is_altered
from tailrace_capture.mysql.progress import Gtid, Progress
from tailrace_capture.mysql.protocol import DumpClient, Packets, error_of
from tailrace_capture.mysql.stop import statement_error, stop_error
from tailrace_capture.mysql.xa import ROW_EVENTS
from tailrace_capture.source import SchemaChange, TableFeed, Transaction
from tailrace_schemas.errors import LOAD_AGAIN, SourceUnavailableError, StopError
from tailrace_schemas.position import FilePlace, FilePosition
from tailrace_schemas.table import TableId

POLL_SECONDS = 0.005
SILENCE_SECONDS = 60.0
HOLD_BYTES = 64 << 20  # a transaction this big is handed on before its end is there
NEW_TABLES_SECONDS = 5.0
log = logging.getLogger("tailrace.capture")


@dataclass(slots=True)
class Group:
    """One transaction, or one statement with a GTID of its own. `explicit`: it ends with a commit event, not with its
    only statement. `begun`: the feed knows of it already, since it was too big to hold."""

    gtid: Gtid | None
    start: FilePlace
    commit_us: int
    server_id: int
    explicit: bool
    thread: int = -1
    held: Held = field(default_factory=Held)
    savepoints: dict[str, int] = field(default_factory=dict)
    xa: bool = False
    begun: bool = False
    statements: list[Callable[[], None]] = field(default_factory=list)


class Stream:
    """One run of a stream over one dump connection. `log_end`: the end of the log when the run began; `look_back`: the
    rows of an XA transaction prepared before; `selects`: the pipeline's selection."""

    def __init__(
        self,
        client: DumpClient,
        feed: Feed,
        progress: Progress,
        layouts: Layouts,
        head: bytes,
        log_end: FilePlace,
        look_back: Callable[[bytes], Held | None],
        selects: Callable[[TableId], bool] = lambda _table: False,
    ) -> None:
        self._selects = selects
        self._looked_at = time.monotonic()
        self._client, self._feed, self._progress, self._layouts = client, feed, progress, layouts
        self._log_end, self._look_back = log_end, look_back
        self._coder = rows.RowCoder(head, self._lookup, self._decide, jsonb.to_text, jsonb.patch)
        self._packets = Packets()
        self._checksum = client.checksum
        self._file, self._pos = "", 4
        self._group: Group | None = None
        self._prepared: dict[bytes, Group] = {}
        self._heard_at = time.monotonic()
        self._rows_bytes = 0
        self._rows_from = FilePlace("", 4)

    @property
    def progress(self) -> Progress:
        return self._progress

    def prepared(self) -> dict[bytes, Held]:
        """Rows of XA transactions that are prepared and not decided."""
        return {xid: group.held for xid, group in self._prepared.items()}

    # --- the loop

    def run(self) -> None:
        """
        Raises:
            SourceUnavailableError: the connection ended; StopError and the like: a person is needed.
        """
        feed, packets = self._feed, self._packets
        feed.settled = not any(is_altered(table) for table in feed.tables.values())
        while not feed.stopping:
            chunk = self._client.receive(POLL_SECONDS)
            if chunk:
                self._heard_at = time.monotonic()
                self._coder.set_time(time.time_ns())
                if packets.add(chunk):
                    self._cut_named()
            elif time.monotonic() - self._heard_at > SILENCE_SECONDS:
                raise SourceUnavailableError(f"the source sent nothing for {SILENCE_SECONDS:.0f} s")
            feed.tick()

    def _cut_named(self) -> None:
        """As `_cut`; what stops the stream names its place: the event's, or the one right behind it."""
        try:
            self._cut()
        except StopError as error:
            error.position = error.position or str(FilePlace(self._file, self._pos))
            raise

    def _cut(self) -> None:
        """Everything whole in the received bytes."""
        packets = self._packets
        turns = 0
        while True:
            data, at = packets.data, packets.at
            stop = int(rows.find_control(data, at, len(data)))
            if stop > at:
                packets.at = stop
                self._rows_bytes += stop - at
                self._rows(Piece(data, at, stop, 5, 4 if self._checksum else 0))
            found = packets.cut()
            if isinstance(found, int):
                packets.rest(found)
                return
            self._packet(*found)
            turns += 1
            if turns % 256 == 0 and self._group is None:
                self._feed.tick()
                if self._feed.stopping:
                    return

    def _packet(self, data: bytes, start: int, end: int) -> None:
        if end <= start:
            raise bl.corrupt("an empty packet in a dump")
        status = data[start]
        if status == 0xFF:
            raise error_of(data[start:end])
        if status == 0xFE and end - start < 9:
            raise SourceUnavailableError("the source ended the dump")
        if status != 0:
            raise bl.corrupt("a packet in a dump that is neither an event nor an error")
        self._event(data[start + 1 : end])

    def _event(self, event: bytes) -> None:
        header = bl.parse_header(event)
        if header.size != len(event):
            raise bl.corrupt("an event of another size than its packet")
        if header.type == bl.FORMAT_DESCRIPTION:
            self._checksum = bl.parse_format_description(event).checksum
        if self._checksum:
            bl.verify_checksum(event)
        body = event[bl.HEADER : -bl.CHECKSUM if self._checksum else len(event)]
        if header.type == bl.HEARTBEAT or header.type == bl.HEARTBEAT_V2:
            self._heartbeat(header, body)
            return
        start = FilePlace(self._file, self._pos)
        self._advance(header)
        if header.type in ROW_EVENTS:
            self._rows_alone(event)
        else:
            self._control(header, event, body, start)

    def _advance(self, header: bl.Header) -> None:
        """The place after the event. Events that the dump thread makes up take no place; positions are given modulo
        2^32, and as 0 inside transactions of MariaDB 11."""
        if header.flags & bl.FLAG_ARTIFICIAL or header.type == bl.ROTATE:
            return
        if header.type == bl.FORMAT_DESCRIPTION and header.next_pos == 0:
            return
        near = self._pos + self._rows_bytes + header.size
        self._rows_bytes = 0
        if header.next_pos == 0:
            self._pos = near
            return
        self._pos = near + ((header.next_pos - near + (1 << 31)) % (1 << 32)) - (1 << 31)

    # --- rows

    def _rows(self, piece: Piece) -> None:
        group = self._in_group("rows")
        if group.begun:
            self._encode(piece)
            return
        group.held.add(piece)
        if group.held.size > HOLD_BYTES and group.explicit and not group.xa:
            self._begin(group)

    def _rows_alone(self, event: bytes) -> None:
        self._rows(Piece(event, 0, len(event), 0, 4 if self._checksum else 0))

    def _in_group(self, what: str) -> Group:
        if self._group is None:
            raise bl.corrupt(f"{what} outside a transaction", str(FilePlace(self._file, self._pos)))
        return self._group

    def _encode(self, piece: Piece) -> None:
        """Into the tables' buffers; a table whose rows cannot be read stops, the others go on."""
        coder = self._coder
        coder.fixed_pos = piece.fixed is not None
        if piece.fixed is not None:
            coder.pos = piece.fixed
        at = piece.start
        while at < piece.end:
            try:
                coder.run(piece.data, at, piece.end, piece.gap, piece.trailer)
                at = piece.end
            except (images.TornRowError, images.PartialImageError, images.InexactKeyError) as error:
                self._stop(error)
                at = int(coder.event_end)
        self._feed.overfull(int(coder.total))

    def _stop(self, error: Exception) -> None:
        plan = self._coder.plan_now
        if plan is None:
            raise bl.corrupt("a row event cannot be read", str(error)) from error
        owner = plan.owner
        assert isinstance(owner, TableFeed)
        self._coder.forget(plan)
        self._feed.stop_table(owner.schema.table, stop_error(error, owner.schema.table))

    def _lookup(self, body: bytes) -> images.Plan | None:
        return self._layouts.plan(body, self._feed, self._rows_from, FilePlace(self._file, self._pos))

    def _decide(self, plan: images.Plan, key: bytes | None) -> bool:
        """Rule B1. A table in load whose rows have another layout than its chunks starts again when a change of it is
        really published; that change is dropped with the chunks."""
        if not self._feed.decide(plan.buffer, key):
            return False
        owner = plan.owner
        assert isinstance(owner, TableFeed)
        now = self._feed.tables.get(owner.schema.table)
        if now is None or now.schema == owner.schema:
            return now is not None
        plan.owner = self._feed.change_schema(SchemaChange(owner.schema, renamed={}, reload=True))
        return False

    # --- transactions

    def _open(self, gtid: Gtid | None, header: bl.Header, start: FilePlace, commit_us: int, explicit: bool) -> None:
        if self._group is not None:
            raise bl.corrupt("a transaction begins inside another", str(start))
        self._group = Group(gtid, start, commit_us, header.server_id, explicit)

    def _begin(self, group: Group) -> None:
        """Tell the feed, and encode what is held."""
        end = FilePlace(self._file, self._pos)
        id_ = self._id(group)
        transaction = Transaction(id_, group.commit_us // 1000, self._progress.ref(group.gtid, end))
        skip = self._feed.begin(transaction)
        gtid = None if group.gtid is None else str(group.gtid).encode()
        start = self._rows_from = group.start
        self._coder.begin(
            group.commit_us, group.server_id, gtid, start.file.encode(), start.pos, group.thread, id_.encode(), skip
        )
        group.begun = True
        if skip:
            group.statements = []  # in the log already, with the part of the transaction that is (rule C3)
        self._act(group)
        for piece in group.held.pieces():
            self._encode(piece)
        group.held = Held()

    def _id(self, group: Group) -> str:
        return str(group.gtid) if group.gtid is not None else f"file={group.start.file},pos={group.start.pos}"

    def _commit(self) -> None:
        group = self._in_group("a commit")
        self._group = None
        self._publish(group)

    def _publish(self, group: Group) -> None:
        end = FilePlace(self._file, self._pos)
        if not group.begun and self._progress.has(group.gtid, end):
            return
        if not group.begun:
            self._begin(group)
        self._act(group)
        self._progress.add(group.gtid, end)
        self._feed.commit(self._progress.position())
        self._layouts.settle(self._feed, end)
        self._look()

    @staticmethod
    def _act(group: Group) -> None:
        """Rows in one group with a statement come after it: CREATE OR REPLACE TABLE ... SELECT of MariaDB."""
        statements, group.statements = group.statements, []
        for act in statements:
            act()

    def _rollback(self) -> None:
        """A rolled back transaction is in the log where it changed a table without transactions as well."""
        group = self._in_group("a rollback")
        if group.begun:
            raise StopError(
                "a transaction that was too big to hold was rolled back",
                code="ROLLED_BACK",
                detail=f"{self._id(group)} at {group.start}",
                hint=LOAD_AGAIN,
            )
        group.held = Held()
        group.statements = []
        self._commit()

    def _prepare(self, body: bytes) -> None:
        event = bl.parse_xa_prepare(body)
        group = self._in_group("an XA prepare")
        if event.one_phase:
            self._commit()
            return
        self._group = None
        before, end = self._progress.passed, FilePlace(self._file, self._pos)
        again = self._progress.has(group.gtid, end)
        self._prepared[event.xid] = group
        self._progress.prepare(event.xid, before, group.gtid)
        if not again:
            self._feed.begin(Transaction(self._id(group), group.commit_us // 1000, self._progress.ref(group.gtid, end)))
            self._progress.add(group.gtid, end)
            self._feed.commit(self._progress.position())

    def _decide_xa(self, statement: ddl.Statement) -> None:
        group = self._in_group("the end of an XA transaction")
        prepared = self._prepared.pop(statement.xid, None)
        self._progress.prepared.pop(statement.xid, None)
        if statement.kind == "xa commit":
            if prepared is None and not self._progress.has(group.gtid, FilePlace(self._file, self._pos)):
                self._decided_from_before(group, statement.xid)
            if prepared is not None:
                group.held, group.start = prepared.held, prepared.start
        self._commit()

    def _decided_from_before(self, group: Group, xid: bytes) -> None:
        """Prepared before the stream began. Where its rows are gone from the log too, every table starts again."""
        held = self._look_back(xid)
        if held is not None:
            group.held = held
            return
        log.warning("an XA transaction was prepared in a log file that is purged: every table is loaded again")
        for table in list(self._feed.tables):
            group.statements.append(partial(self._feed.reload, table))

    # --- other events

    def _control(self, header: bl.Header, event: bytes, body: bytes, start: FilePlace) -> None:
        kind = header.type
        if kind == bl.XID:
            self._commit()
        elif kind == bl.QUERY or kind == bl.QUERY_COMPRESSED:
            self._query(bl.parse_query(body) if kind == bl.QUERY else bl.parse_query_compressed(body))
        elif kind in (bl.GTID, bl.ANONYMOUS_GTID, bl.GTID_TAGGED):
            self._mysql_gtid(header, body, start)
        elif kind == bl.MARIADB_GTID:
            self._maria_gtid(header, body, start)
        elif kind == bl.TRANSACTION_PAYLOAD:
            self._payload(bl.payload_events(body), start)
        elif bl.ROWS_COMPRESSED_FIRST <= kind <= bl.ROWS_COMPRESSED_LAST:
            plain = bl.plain_rows_event(event[: bl.HEADER + len(body)])
            self._rows(Piece(plain, 0, len(plain), 0, 0, start.pos))
        elif kind == bl.XA_PREPARE:
            self._prepare(body)
        elif kind == bl.ROTATE:
            self._rotate(bl.parse_rotate(body))
        elif kind == bl.FORMAT_DESCRIPTION:
            self._new_file()
        elif kind == bl.INCIDENT:
            raise bl.parse_incident(body)
        elif kind in (bl.BEGIN_LOAD_QUERY, bl.EXECUTE_LOAD_QUERY):
            self._unclear("LOAD DATA in statement format")
        elif kind not in bl.STATEMENT_EVENTS and kind not in bl.SILENT_EVENTS and kind != bl.MARIADB_GTID_LIST:
            raise bl.unknown(f"an event of type {kind} at {start}")

    def _mysql_gtid(self, header: bl.Header, body: bytes, start: FilePlace) -> None:
        parse = bl.parse_tagged_gtid if header.type == bl.GTID_TAGGED else bl.parse_mysql_gtid
        gtid = parse(body)
        commit_us = gtid.commit_us or header.timestamp * 1_000_000
        if header.type == bl.ANONYMOUS_GTID:
            if not isinstance(self._progress.passed, FilePosition):
                raise StopError(
                    "a transaction without a GTID, where the log goes by GTIDs",
                    code="GTID_MODE",
                    detail=f"at {start}",
                    hint="SET GLOBAL gtid_mode = ON on every server that writes to this one",
                )
            self._open(None, header, start, commit_us, False)
        else:
            self._open(gtid, header, start, commit_us, False)

    def _maria_gtid(self, header: bl.Header, body: bytes, start: FilePlace) -> None:
        gtid = bl.parse_maria_gtid(body, header.server_id)
        self._open(gtid, header, start, header.timestamp * 1_000_000, not gtid.standalone and not gtid.completes_xa)
        if gtid.prepares_xa and self._group is not None:
            self._group.xa = True

    def _payload(self, events: bytes, start: FilePlace) -> None:
        """A compressed transaction: what is inside, in order; its rows stand where the payload stands."""
        at = 0
        while at < len(events):
            header = bl.parse_header(events, at)
            stop = at + header.size
            if header.size < bl.HEADER or stop > len(events):
                raise bl.corrupt("a transaction payload with an event that ends outside")
            if header.type in ROW_EVENTS:
                self._rows(Piece(events, at, stop, 0, 0, start.pos))
            elif header.type == bl.TRANSACTION_PAYLOAD:
                raise bl.corrupt("a transaction payload inside another")
            else:
                self._control(header, events[at:stop], events[at + bl.HEADER : stop], start)
            at = stop

    def _rotate(self, rotate: bl.Rotate) -> None:
        if rotate.file != self._file or rotate.pos != self._pos:
            self._unfinished()
        self._file, self._pos = rotate.file, rotate.pos

    def _new_file(self) -> None:
        self._unfinished()
        self._coder.forget_tables()  # a server that was started anew gives tables their ids again

    def _unfinished(self) -> None:
        """A file that ends inside a transaction: the server crashed there, and never committed it."""
        if self._group is not None and self._group.begun:
            raise SourceUnavailableError("the source crashed inside a transaction that was being published")
        self._group = None

    def _heartbeat(self, header: bl.Header, body: bytes) -> None:
        """Nothing is left to send. Also sent while the server skips what we have, so only a place past the end of the
        log as it was at the start counts."""
        if header.type == bl.HEARTBEAT_V2:
            beat = bl.parse_heartbeat_v2(body)
            place = FilePlace(beat.file, beat.pos)
        else:
            place = FilePlace(body.decode(), self._pos & ~0xFFFFFFFF | header.next_pos)
        if self._group is not None or place.file != self._file or place.pos < self._pos:
            return
        if self._log_end.at_or_before(place):
            self._progress.move(place)
            self._layouts.settle(self._feed, place)
            self._feed.idle(self._progress.position())
            self._look()

    # --- statements

    def _query(self, query: bl.Query) -> None:
        group = self._in_group("a statement")
        if group.thread < 0:
            group.thread = query.thread
        text = self._layouts.text(query)
        statement = ddl.parse_statement(text, query.database.decode("utf-8", "replace"))
        match statement.kind:
            case "begin":
                group.explicit = True
            case "commit":
                self._commit()
            case "rollback":
                self._rollback()
            case "savepoint":
                group.savepoints[statement.name] = group.held.mark()
            case "rollback to":
                self._rollback_to(group, statement.name)
            case "xa start":
                group.explicit = group.xa = True
            case "xa end":
                pass
            case "xa commit" | "xa rollback":
                self._decide_xa(statement)
            case _:
                self._statement(group, statement, text)
                if not group.explicit:
                    self._commit()

    def _rollback_to(self, group: Group, name: str) -> None:
        if group.begun or name not in group.savepoints:
            raise StopError(
                "a big transaction was rolled back to a savepoint after its rows were published",
                code="ROLLED_BACK",
                detail=f"{self._id(group)} at {group.start}",
                hint=LOAD_AGAIN,
            )
        group.held.cut(group.savepoints[name])

    def _statement(self, group: Group, statement: ddl.Statement, text: str) -> None:
        """What it does to captured tables is done when the group is published, inside its transaction."""
        captured = [table for table in statement.tables if table in self._feed.tables]
        changed = self._layouts.changed(statement, text, group.start, self._feed)
        if changed:
            self._coder.forget_tables()
        match statement.kind:
            case "truncate":
                for table in captured:
                    group.statements.append(partial(self._feed.truncate, table, _place(group)))
            case "drop":
                if statement.database:
                    captured = [table for table in self._feed.tables if table.schema == statement.database]
                for table in captured:
                    group.statements.append(partial(self._dropped, table, _place(group)))
            case "rename":
                self._renamed(group, statement.tables)
            case "create":
                for table in captured if statement.replace else []:
                    group.statements.append(partial(self._feed.truncate, table, _place(group)))
                group.statements.append(partial(self._appeared, statement.tables[0]))
            case "alter":
                self._layouts.altered(captured, text, self._feed)
            case "reload":
                for table in captured:
                    group.statements.append(partial(self._feed.reload, table))
            case "data":
                self._data(captured, statement.tables)
            case "unclear":
                self._unclear("a statement that may change any table")
            case _:
                pass

    def _look(self) -> None:
        """Between two groups, every few seconds: tables that no statement told of, or one that came too early."""
        if time.monotonic() - self._looked_at < NEW_TABLES_SECONDS:
            return
        self._looked_at = time.monotonic()
        there = self._layouts.table_names()
        for table in there:
            self._appeared(table)
        for table in self._feed.refused.keys() - set(there):
            del self._feed.refused[table]

    def _appeared(self, table: TableId) -> None:
        """A table that has this name now is taken up, if it is selected and new. One that the catalogue does not show
        was dropped since, or its statement came before its commit: looked for later."""
        feed = self._feed
        if not self._selects(table) or not feed.wants(table):
            return
        schema = self._layouts.new_table(table, feed)
        if schema is not None:
            feed.take_up(schema, UNPROVEN)
            self._coder.forget_tables()

    def _dropped(self, table: TableId, place: dict[str, object]) -> None:
        """Dropped, and made again by now: empty from here on. Else it is gone."""
        if self._layouts.exists(table):
            self._feed.truncate(table, place)
            self._layouts.altered([table], "", self._feed)
        else:
            self._feed.table_gone(table)

    def _renamed(self, group: Group, pairs: tuple[TableId, ...]) -> None:
        olds, news = pairs[::2], pairs[1::2]
        for table in self._feed.tables:
            if table in news:
                group.statements.append(partial(self._replaced, table))
            elif table in olds:
                group.statements.append(partial(self._dropped, table, _place(group)))
        for table in news:
            group.statements.append(partial(self._appeared, table))

    def _replaced(self, table: TableId) -> None:
        """Another table has taken this name."""
        if not self._layouts.exists(table):
            self._feed.table_gone(table)
            return
        self._layouts.replaced(table, self._feed)

    def _data(self, captured: list[TableId], named: tuple[TableId, ...]) -> None:
        if not captured and self._layouts.have_triggers(named):
            self._unclear("a change in statement format of a table with triggers")
        for table in captured:
            self._feed.stop_table(table, statement_error(table))
            self._coder.forget_tables()

    def _unclear(self, what: str) -> None:
        raise StopError(
            f"the binary log holds {what}",
            code="STATEMENT_DML",
            detail=f"at {FilePlace(self._file, self._pos)}",
            hint=f"SET GLOBAL binlog_format = ROW, let no session set another; {LOAD_AGAIN}",
        )


def _place(group: Group) -> dict[str, object]:
    """Where it stands, in the words of an event's `source`."""
    gtid = None if group.gtid is None else str(group.gtid)
    thread = None if group.thread < 0 else group.thread
    return {
        "server_id": group.server_id, "gtid": gtid, "file": group.start.file, "pos": group.start.pos, "thread": thread,
    }  # fmt: skip
