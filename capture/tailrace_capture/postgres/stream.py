"""The replication stream, message by message: changes go through the compiled codec, the rest is handled here.

A position is the end LSN of a commit (or where an idle server stands). A transaction's `ref` is its 32-bit top-level
xid. Big transactions that the server streams before their commit wait in the spool and are read again at commit.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from psycopg import sql

from tailrace_capture.feed import Feed
from tailrace_capture.postgres import ddl_trigger, pgoutput
from tailrace_capture.postgres.catalog import Described, Rows
from tailrace_capture.postgres.complete import complete_change
from tailrace_capture.postgres.pgoutput import Codec
from tailrace_capture.postgres.publication import Publication
from tailrace_capture.postgres.relations import Relations, signed
from tailrace_capture.postgres.replication import POSTGRES_EPOCH_MICROS, ReplicationStream
from tailrace_capture.postgres.spool import Spool
from tailrace_capture.postgres.stop import inexact_key
from tailrace_capture.postgres.visibility import PgSnapshot, widen
from tailrace_capture.source import TableFeed, Transaction
from tailrace_schemas import wire
from tailrace_schemas.errors import TABLE_AGAIN, InvariantError, SourceUnavailableError, StopError, TableStopError
from tailrace_schemas.position import LsnPosition, format_lsn
from tailrace_schemas.table import TableId

FEEDBACK_SECONDS = 1.0
LOOK_SECONDS = 5.0
LOOK_SHARE = 0.01  # of the stream's time, where there are thousands of tables
MESSAGES_A_TURN = 2048
PASSED_LIMIT = 100_000
VISIBLE_SECONDS = 0.002

_BEGIN = struct.Struct(">qqi")  # final LSN, commit time, xid
_COMMIT = struct.Struct(">bqqq")  # flags, commit LSN, end LSN, commit time
_STREAM_COMMIT = struct.Struct(">ibqqq")  # xid, flags, commit LSN, end LSN, commit time
_KEEPALIVE = struct.Struct(">qqb")  # end of WAL, time, reply wanted

BODY = 25  # where pgoutput's message begins in an XLogData message


class Stream:
    """One run of a stream; `run` is the loop."""

    def __init__(
        self,
        connection: ReplicationStream,
        side: Rows,
        feed: Feed,
        described: dict[TableId, Described | None],
        head: bytes,
        spool_folder: Path,
        whole_images: bool,
    ) -> None:
        self._connection, self._side, self._feed = connection, side, feed
        self._head = head
        self._database = wire.text_bytes(side.info.dbname)
        self._codec = Codec(lambda plan, key: self._relations.decide(plan, key))
        self._relations = Relations(side, feed, self._codec, described, self._await_visible)
        self._codec.whole = whole_images
        self._spool = Spool(spool_folder)
        self._streamed_xid: int | None = None
        self._commit_lsn = 0
        self._xid = 0
        self._shown: int | None = None  # the transaction being read, once the source shows it
        self._last_commit = ""
        self._passed: set[int] = set()
        self._feedback_at = 0.0
        self._now_at = 0.0
        self._in_transaction = False
        self._at = 0
        self._checked_at = time.monotonic()
        self._look_pause = LOOK_SECONDS
        self._publication: Publication | None = None
        self._slot = ""

    def run(self, position: LsnPosition) -> None:
        feed, codec, connection = self._feed, self._codec, self._connection
        self._last_commit, self._at = str(position.lsn), position.lsn
        feed.keepalive = self._keepalive
        self._relations.look()
        self._relations.settle(self._at)
        if self._publication is not None:
            self._publication.look()
        try:
            while not feed.stopping:
                self._keepalive()
                self._clock()
                answer = codec.pump(connection.get, MESSAGES_A_TURN)
                if answer == 3:
                    self._message(codec.message, int(codec.answer))
                elif answer == 2:
                    raise connection.ended()
                if self._in_transaction:
                    feed.overfull(int(codec.ordinal))
                feed.tick()
                if answer == 0:
                    connection.wait(0.005)
            self._connection.feedback(self._durable())
        finally:
            self._spool.close()

    def watch(self, publication: Publication, slot: str) -> None:
        """Before `run`: notice tables that leave the publication, and those that appear. `slot`: in messages for us."""
        self._publication, self._slot = publication, slot
        publication.met, publication.lost = self._relations.met, self._relations.lost

    # --- keep-alive and acknowledgement

    def _durable(self) -> int:
        position = self._feed.durable
        assert isinstance(position, LsnPosition)
        return position.lsn

    def _keepalive(self) -> None:
        now = time.monotonic()
        if now - self._feedback_at >= FEEDBACK_SECONDS:
            self._feedback_at = now
            self._connection.feedback(self._durable())
            if now - self._checked_at >= self._look_pause:
                if self._publication is not None:
                    self._publication.look()
                if not self._in_transaction:
                    self._relations.look()
                self._checked_at = time.monotonic()
                self._look_pause = max(LOOK_SECONDS, (self._checked_at - now) / LOOK_SHARE)

    def _clock(self) -> None:
        """The processing time that events carry, renewed every few milliseconds."""
        now = time.monotonic()
        if now - self._now_at >= 0.005:
            self._now_at = now
            nanos = time.time_ns()
            times = (nanos // 1_000_000, nanos // 1000, nanos)
            self._codec.now = b"".join(b"\2" + wire.long_bytes(value) for value in times)

    # --- messages

    def _message(self, m: bytes, answer: int) -> None:
        kind = m[:1]
        if kind == b"k":
            self._server_keepalive(m)
        elif kind != b"w":
            raise self._unknown(f"unknown replication message {kind!r}")
        elif self._codec.in_stream_block:
            self._in_block(m)
        elif answer == pgoutput.NOT_A_CHANGE:
            self._control(m)
        else:
            self._hard_change(m, answer)

    def _unknown(self, message: str) -> StopError:
        hint = "go on with a version of Tailrace that knows it"
        return StopError(message, code="UNKNOWN_MESSAGE", hint=hint, position=str(LsnPosition(self._durable())))

    def _server_keepalive(self, m: bytes) -> None:
        end, _, reply = _KEEPALIVE.unpack_from(m, 1)
        if not self._in_transaction and self._place_passed(end):
            self._relations.settle(end)
            self._feed.idle(LsnPosition(max(end, self._at)))
            self._at = max(end, self._at)
        if reply:
            self._feedback_at = time.monotonic()
            self._connection.feedback(self._durable())

    def _place_passed(self, end: int) -> bool:
        """Not while the half published transaction of the last run may still come: it commits at the LSN in its id."""
        pending = self._feed.pending_open
        return pending is None or end > int(pending.partition(":")[2])

    def _control(self, m: bytes) -> None:
        kind = m[BODY : BODY + 1]
        match kind:
            case b"B":
                final, micros, xid = _BEGIN.unpack_from(m, BODY + 1)
                self._begin(xid & 0xFFFFFFFF, final, micros)
            case b"C":
                _, _, end, _ = _COMMIT.unpack_from(m, BODY + 1)
                self._commit(end)
            case b"R":
                self._relations.relation(m, BODY + 1, struct.unpack_from(">q", m, 1)[0])
            case b"T":
                self._truncate(m)
            case b"M":
                self._told(m)
            case b"Y" | b"O":
                return
            case b"S":
                (self._streamed_xid,) = struct.unpack_from(">I", m, BODY + 1)
                self._codec.in_stream_block = True
            case b"A":
                xid, subxid = struct.unpack_from(">II", m, BODY + 1)
                self._spool.abort(xid, subxid)
            case b"c":
                self._stream_commit(m)
            case _:
                raise self._unknown(f"unknown pgoutput message {kind!r}")

    def _told(self, m: bytes) -> None:
        """DDL at its place, by the event trigger. Not from transactions streamed before their commit, where a message
        of a part that was rolled back does not say so."""
        told = ddl_trigger.parse(m, BODY + 1, self._slot)
        if told is not None and self._relations.told(told):
            self._checked_at = -LOOK_SECONDS  # tables came, went or changed places: look at once

    def _begin(self, xid: int, commit_lsn: int, micros: int) -> None:
        codec = self._codec
        micros += POSTGRES_EPOCH_MICROS
        self._remember(xid)
        self._xid, self._shown = xid, None
        self._commit_lsn = commit_lsn
        transaction_id = f"{xid}:{commit_lsn}"
        codec.skip = self._feed.begin(Transaction(transaction_id, micros // 1000, xid))
        codec.ordinal = 0
        codec.head = self._head + wire.long_bytes(micros // 1000) + b"\0" + wire.text_bytes("false") + self._database
        codec.sequence = f'["{self._last_commit}","'.encode()
        codec.times = b"\2" + wire.long_bytes(micros) + b"\2" + wire.long_bytes(micros * 1000)
        codec.txid = b"\2" + wire.long_bytes(xid)
        codec.block = b"\2" + wire.text_bytes(transaction_id)
        self._in_transaction = True

    def _commit(self, end: int) -> None:
        self._in_transaction = False
        self._last_commit = str(self._commit_lsn)
        self._at = max(self._at, end)
        self._feed.commit(LsnPosition(end))
        self._relations.settle(end)

    def _truncate(self, m: bytes) -> None:
        """It has an ordinal, so that one which is in the log already is known when its transaction comes again (C3)."""
        self._codec.ordinal += 1
        if self._codec.ordinal <= self._codec.skip:
            return
        count, _ = struct.unpack_from(">iB", m, BODY + 1)
        for oid in struct.unpack_from(f">{count}I", m, BODY + 6):
            plan = self._codec.plans.get(signed(oid))
            if plan is not None:
                assert isinstance(plan.owner, TableFeed)
                (lsn,) = struct.unpack_from(">q", m, 1)
                place = {"txId": self._xid, "lsn": lsn, "sequence": f'["{self._last_commit}","{lsn}"]'}
                self._feed.truncate(plan.owner.schema.table, place)

    # --- transactions streamed before their commit

    def _in_block(self, m: bytes) -> None:
        kind = m[BODY : BODY + 1]
        xid = self._streamed_xid
        assert xid is not None
        if kind == b"E":
            self._codec.in_stream_block = False
            self._streamed_xid = None
            return
        (subxid,) = struct.unpack_from(">I", m, BODY + 1)
        if kind in (b"M", b"O"):
            return
        self._spool.add(xid, subxid, m[: BODY + 1] + m[BODY + 5 :])
        self._feed.tick_in_block()

    def _stream_commit(self, m: bytes) -> None:
        xid, _, commit_lsn, end, micros = _STREAM_COMMIT.unpack_from(m, BODY + 1)
        xid &= 0xFFFFFFFF
        self._begin(xid, commit_lsn, micros)
        for n, message in enumerate(self._spool.messages(xid)):
            answer = int(self._codec.feed(message))
            if answer == pgoutput.NOT_A_CHANGE:
                self._control(message)
            elif answer != pgoutput.FED:
                self._hard_change(message, answer)
            if n % MESSAGES_A_TURN == 0:
                self._keepalive()
                self._feed.overfull(int(self._codec.ordinal))
                self._feed.tick()
        self._spool.forget(xid)
        self._commit(end)

    # --- changes the codec could not take

    def _hard_change(self, m: bytes, answer: int) -> None:
        (oid,) = struct.unpack_from(">I", m, BODY + 1)
        if answer == pgoutput.UNKNOWN_RELATION:
            if oid not in self._relations.ignored:
                raise InvariantError(f"a change of relation {oid} came before its description")
            return
        plan = self._codec.plans[signed(oid)]
        assert isinstance(plan.owner, TableFeed)
        schema = plan.owner.schema
        if answer == pgoutput.UNCHANGED_KEY:
            self._stop(
                schema.table,
                TableStopError(
                    "a change cannot be told apart: its key was not sent",
                    code="UNCHANGED_KEY",
                    detail="a key column is stored out of line and was not changed",
                    hint=f"ALTER TABLE {self._quoted(schema.table)} REPLICA IDENTITY FULL; {TABLE_AGAIN}",
                ),
                oid,
            )
            return
        if answer == pgoutput.INEXACT_KEY:
            self._stop(schema.table, inexact_key(schema.table, self._codec.inexact), oid)
            return
        self._await_visible()
        self._codec.as_it_is = True
        if int(self._codec.feed(complete_change(self._side, schema, m))) != pgoutput.FED:
            raise InvariantError(f"a completed change of {schema.table} is still incomplete")
        self._codec.as_it_is = False

    def _await_visible(self) -> None:
        """Until the source shows the transaction being read. Its commit reaches the stream before that, by as much as a
        synchronous standby takes; what is asked for in between is older than the change, and no later event says so.

        Raises:
            SourceUnavailableError: told to stop meanwhile; the transaction is read again.
        """
        while self._shown != self._xid:
            row = self._side.execute("SELECT pg_current_snapshot()::text").fetchone()
            assert row is not None
            if PgSnapshot.parse(row[0], LsnPosition(0)).sees(self._xid):
                self._shown = self._xid
                return
            self._keepalive()
            if self._feed.stopping:
                raise SourceUnavailableError("a transaction waits in COMMIT", detail=f"transaction {self._xid}")
            time.sleep(VISIBLE_SECONDS)

    def _quoted(self, table: TableId) -> str:
        return sql.Identifier(*table).as_string(self._side)

    def _stop(self, table: TableId, error: TableStopError, oid: int) -> None:
        error.table = table
        error.position = f"lsn:{format_lsn(self._commit_lsn)}"
        self._feed.stop_table(table, error)
        self._relations.ignore(oid)

    # --- rule B2

    def _remember(self, xid: int) -> None:
        self._passed.add(xid)
        if len(self._passed) > PASSED_LIMIT:
            row = self._side.execute("SELECT pg_current_snapshot()::text").fetchone()
            assert row is not None
            now = PgSnapshot.parse(row[0], LsnPosition(0))
            self._passed = {x for x in self._passed if not widen(x, now.xmax) < now.xmin}
            self._passed.add(xid)

    def accepts(self, snapshot: PgSnapshot) -> bool:
        """Everything passed or begun in this run is visible in S. Called while the stream stands still."""
        if not all(snapshot.sees(xid) for xid in self._passed):
            return False
        self._passed = {xid for xid in self._passed if widen(xid, snapshot.xmax) >= snapshot.xmin}
        return True

    def locks_still_held(self, transactions: set[str]) -> set[str]:
        rows = self._side.execute(
            "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE virtualtransaction = ANY(%s)", (list(transactions),)
        ).fetchall()
        return {row[0] for row in rows}


__all__ = ["Stream"]
