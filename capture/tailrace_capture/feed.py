"""The feed: what an engine's stream tells the capture core, in the order of the source's log.

One Feed per run of a stream. It judges events of tables in load (rule B1, with `load.py`), numbers source transactions,
cuts what the codecs appended into log transactions and hands them to the publisher, and stands still when a load
thread takes a snapshot (rule B3).
All methods but `standing_still`, `wake` and `stop` belong to the stream's thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tailrace_capture.load_state import TableLoad
from tailrace_capture.publish import AbandonWork, ChunkWork, Mark, Publisher, StreamWork, Work, stop_note
from tailrace_capture.side_topics import SideTopics
from tailrace_capture.snapshot import LiveLoad, LoadPlanner
from tailrace_capture.source import Resume, SchemaChange, TableFeed, Transaction
from tailrace_capture.tables import TableRegister
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_log.log import Batch, CommitRecord, Marker, MarkerKind
from tailrace_schemas.errors import RetryableError, TableStopError
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.position import Position
from tailrace_schemas.table import TableId, TableSchema

log = logging.getLogger("tailrace.capture")

CUT_BYTES = 4 << 20  # a log transaction this big is cut at the next commit even while another is being written
OPEN_BYTES = 8 << 20  # a source transaction this big is published in parts (rule C3)
IDLE_SECONDS = 1.0  # how often a position without changes of ours is written


class Feed:
    """See the module. The engine sets `keepalive`, called while the stream waits, many times a second, and `settled`:
    no table is known to differ at the source from what the log says of it. `wants` and `take_up` are for tables that
    the engine meets and the log does not know (new_tables.py); `gone`: tables stopped because they are not there;
    `refused`: selected ones that cannot be captured, each with the note that status shows."""

    def __init__(
        self,
        register: TableRegister,
        publisher: Publisher,
        planner: LoadPlanner,
        clock: Clock,
        side: SideTopics,
        resume: Resume,
    ) -> None:
        self._side = side
        self._register, self._publisher, self._planner, self._clock = register, publisher, planner, clock
        self.resume = resume
        self.keepalive: Callable[[], None] = lambda: None
        self.stopping = False
        self.settled = False
        self.durable: Position = resume.position
        self.transactions = 0
        self._changed = threading.Condition()
        self._wanting_still = 0
        self._parked = False
        self._pending_open = resume.open
        self._skipping = False
        self._transaction: Transaction | None = None
        self._in_series = False
        self._at: Position = resume.position
        self._cut: Position = resume.position
        self._cut_at = time.monotonic()
        self._source_ms = 0
        self._marks: list[Mark] = []
        self._layouts: dict[TableId, str] = {}
        self._marks_before = 0
        self._requests: list[Callable[[], None]] = []
        self.gone: set[TableId] = set()
        self.refused: dict[TableId, dict[str, str]] = {}
        self.wants: Callable[[TableId], bool] = lambda _table: False
        self.take_up: Callable[[TableSchema, str], None] = lambda _schema, _layout: None
        publisher.on_durable = self._on_durable

    # --- tables

    @property
    def tables(self) -> dict[TableId, TableFeed]:
        """Captured tables that are not stopped."""
        return self._register.feeds

    def change_schema(self, change: SchemaChange) -> TableFeed:
        """The table has this schema from here on: registers it, announces it, returns the feed to append to. A table
        in mid-load starts again (its chunks were read under the old schema); then sinks empty it first."""
        schema = change.schema
        feed = self._register.describe(schema, change.layout)
        self._layouts.pop(schema.table, None)
        data: dict[str, object] = {"key_schema_id": feed.key_id, "value_schema_id": feed.value_id}
        again: list[TableFeed] = []
        if change.reload or self._planner.loading(schema.table):
            again = self.start(schema.table)
            data["reload"] = True
        if change.renamed is not None:
            data["renamed"] = dict(change.renamed)
        if change.defaults:
            data["defaults"] = dict(change.defaults)
        self._mark("schema", feed, data, layout=change.layout)
        self._side.schema_change(feed, "ALTER", str(self._at))
        self._tell_emptied(again)
        return feed

    def note_layout(self, table: TableId, layout: str) -> None:
        """The engine's note has changed, the schema has not."""
        self._register.feeds[table].layout = layout
        self._layouts[table] = layout

    def announce(self, feed: TableFeed, load: TableLoad) -> None:
        """A table new to the log: its schema stands before its first record."""
        data: dict[str, object] = {"key_schema_id": feed.key_id, "value_schema_id": feed.value_id}
        self._mark("schema", feed, data, load=load, layout=feed.layout)
        self._side.schema_change(feed, "CREATE", str(self._at))

    def stop_table(self, table: TableId, error: TableStopError) -> None:
        """Stop publishing this table, here and for good; the others go on (rule A7)."""
        feed = self._register.feeds.get(table)
        if feed is None:
            return
        error.table = table
        if self._skipping:
            self._count_again(error)
        error.position = error.position or str(self._at)
        self._mark("stopped", feed, dict(stop_note(error)))
        self._register.stop(table)
        self._planner.stop(table)
        (self.gone.add if error.code == "TABLE_DROPPED" else self.gone.discard)(table)
        log.error("table stopped: %s", error, extra={"table": str(table)})
        self.wake()

    def _count_again(self, error: TableStopError) -> None:
        """A table stops where events of it have been counted before, so the rest of the transaction would be counted
        otherwise: it is published anew.

        Raises:
            RetryableError: always; the next run does that.
        """
        self._marks = []
        self._abandon()
        while not self._publisher.idle:
            self._publisher.check()
            self._pause()
        raise RetryableError(
            f"{error.table} stops inside a half published transaction, which is read anew",
            code="COUNTED_OTHERWISE",
            detail=error.message,
        )

    def retire(self, table: TableId) -> None:
        """A table that the log knows is not there, or not selected, any more. It starts again if it comes back."""
        note = {"code": "TABLE_GONE", "message": "the table is gone or no longer selected"}
        note |= {"remedy": "create or select it again: then it is loaded anew"}
        self.gone.add(table)
        self._marks.append(Mark(Marker("stopped", *table, self._register.topic(table), {}, dict(note))))

    def table_gone(self, table: TableId) -> None:
        """The source no longer has this table."""
        hint = "remove it from the pipeline's tables, or create it again: then it is loaded anew"
        self.stop_table(table, TableStopError("the table is gone at the source", code="TABLE_DROPPED", hint=hint))

    def refuse(self, table: TableId, error: TableStopError) -> None:
        """A new table of the selection that cannot be captured as it is: said in the status, and tried again."""
        note = dict(stop_note(error))
        if self.refused.get(table) != note:
            log.error("new table is not captured: %s", error, extra={"table": str(table)})
        self.refused[table] = note

    def reload(self, table: TableId, place: Mapping[str, Any] | None = None) -> None:
        """The table, and those loaded together with it, start again: sinks empty them here, every chunk is read anew
        (rule B10). `place` as in `truncate`."""
        self._tell_emptied(self.start(table), place)

    def start(self, table: TableId) -> list[TableFeed]:
        """As `reload`, where foreign consumers have no rows of it to drop. Gives the tables that start."""
        feeds = [self._register.feeds[t] for t in self._planner.together(table) if t in self._register.feeds]
        for feed in feeds:
            self._mark("reload", feed, {}, bounds=self._planner.restart(feed))
        self.wake()
        return feeds

    def _tell_emptied(self, feeds: list[TableFeed], place: Mapping[str, Any] | None = None) -> None:
        """For foreign consumers, behind the markers."""
        for feed in feeds:
            self._side.truncate(feed, place or {})

    def request(self, act: Callable[[], None]) -> None:
        """For load threads: `act` runs in the stream's thread, between two transactions."""
        self._requests.append(act)
        self.wake()

    def _mark(
        self,
        kind: MarkerKind,
        feed: TableFeed,
        data: dict[str, object],
        bounds: list[list[str]] | None = None,
        load: TableLoad | None = None,
        layout: str = "",
    ) -> None:
        marker = Marker(kind, *feed.schema.table, feed.topic, feed.buffer.counts_now(), data)
        self._marks.append(Mark(marker, bounds, load, layout))

    # --- the stream

    @property
    def pending_open(self) -> str | None:
        """Id of the transaction that was half published when the last run ended, until it comes again."""
        return None if self._pending_open is None else self._pending_open.id

    def begin(self, transaction: Transaction) -> int:
        """A source transaction begins. Returns how many of its events are in the log already: the codec appends only
        those with a higher ordinal (rule C3). Ordinals count events of the tables that are captured; where these are no
        longer the same, the transaction is published anew."""
        self._clock.transaction += 1
        self._transaction = transaction
        self._marks_before = len(self._marks)
        self._source_ms = transaction.commit_ms
        pending = self._pending_open
        if pending is None:
            return 0
        same_tables = not self._marks and not any("stopped" in kinds for kinds in self._publisher.series.values())
        if pending.id != transaction.id or not same_tables:
            self._abandon()
            return 0
        self._pending_open = None
        self._in_series = self._skipping = True
        return pending.ordinals

    def decide(self, buffer: TopicBuffer, key: bytes | None) -> bool:
        """Whether a change of a table in load is published (rule B1); may wait for a chunk that is being read."""
        feed = buffer.table
        assert isinstance(feed, TableFeed)
        assert self._transaction is not None
        live = self._planner.live(feed.schema.table)
        if live is None:
            return True
        return self._judge(live, live.chunk_of(key), self._transaction.ref)

    def _judge(self, live: LiveLoad, chunk: int, ref: object) -> bool:
        while True:
            with live.lock:
                state, snapshot = live.at(chunk)
            if state == "none":
                return False
            if snapshot is None:
                return True
            if snapshot.sees(ref):
                return False
            if state == "done":
                return True
            self._wait()

    def truncate(self, table: TableId, place: Mapping[str, Any]) -> None:
        """TRUNCATE at this place of the current transaction (rule B9). `place`: fields of an event's `source` that say
        where that is."""
        feed = self._register.feeds.get(table)
        if feed is None:
            return
        live = self._planner.live(table)
        if live is not None:
            assert self._transaction is not None
            verdict = live.truncate(self._transaction.ref)
            if verdict == "drop":
                return
            if verdict == "restart":
                self.reload(table, place)
                return
        self._mark("truncate", feed, {})
        self._tell_emptied([feed], place)

    def commit(self, position: Position) -> None:
        """The current transaction ends; the log is complete up to `position` once it is cut here."""
        if self._transaction is not None:
            self._side.commit(self._transaction)
        self._at = position
        self._transaction = None
        self._in_series = self._skipping = False
        self.transactions += 1
        if self._register.bytes_waiting >= CUT_BYTES or (self._has_content() and self._publisher.idle):
            self._cut_here()

    def overfull(self, ordinals: int) -> None:
        """To be called inside a big transaction now and then: publishes what there is of it when it is too big to keep.
        `ordinals`: how many of its events have passed."""
        if self._register.bytes_waiting < OPEN_BYTES:
            return
        assert self._transaction is not None
        if not self._in_series:
            self._cut_earlier()
        self._in_series, self._skipping = True, False
        self._put_stream(self._register.take(), self._take_marks(), self._cut, self._transaction.id, ordinals)

    def _cut_earlier(self) -> None:
        """A series begins in a log transaction of its own: publish what earlier transactions left (rule C3)."""
        earlier = self._register.take(before_transaction=True)
        marks, self._marks = self._marks[: self._marks_before], self._marks[self._marks_before :]
        taken = {(batch.topic, batch.partition): batch.count for batch in earlier}
        for mark in self._marks:
            at = {p: n - taken.get((mark.marker.topic, p), 0) for p, n in mark.marker.at.items()}
            mark.marker = replace(mark.marker, at=at)
        if earlier or marks or self._at != self._cut:
            self._put_stream(earlier, marks, self._at, None, 0)

    def _abandon(self) -> None:
        """What is half published is not gone on with (rule C3). Sinks leave it out, its markers too: tables that have
        markers there start again, as the log now describes them; stops are told again."""
        self._pending_open = None
        waiting, self._marks = self._marks, []
        for table, kinds in self._publisher.series.items():
            feed = self._register.feeds.get(table)
            if feed is None:
                self._stop_told_again(table, kinds)
                continue
            again = self.start(table)
            if "schema" in kinds:
                ids = {"key_schema_id": feed.key_id, "value_schema_id": feed.value_id}
                self._mark("schema", feed, {**ids, "reload": True, "renamed": {}}, layout=feed.layout)
            self._tell_emptied(again)
        self._put(AbandonWork(self._take_marks()))
        self._marks = waiting

    def _stop_told_again(self, table: TableId, kinds: set[MarkerKind]) -> None:
        load = self._publisher.loads.get(table)
        if "stopped" in kinds and load is not None:
            self._marks.append(Mark(Marker("stopped", *table, self._register.topic(table), {}, dict(load.error))))

    def idle(self, position: Position) -> None:
        """The source has nothing of ours up to `position`. An open transaction that should have come by then is lost:
        the engine calls this only past its place."""
        if self._pending_open is not None:
            self._abandon()
        self._at = position

    def tick(self) -> None:
        """Often, between the source's messages.

        Raises:
            the publisher's error, if it has ended.
        """
        self._publisher.check()
        if self._wanting_still:
            if self._marks and self._transaction is None:
                self._cut_here()  # a table new to the log is announced there before any chunk of it
            self._stand_still()
        self._planner.check()
        if self._transaction is not None:
            return
        while self._requests:
            self._requests.pop(0)()
        if self._pending_open is None and self._side.beat_due():
            self._cut_here()
        elif self._has_content():
            if self._publisher.idle:
                self._cut_here()
        elif self._at != self._cut and time.monotonic() - self._cut_at > IDLE_SECONDS and self._publisher.idle:
            self._cut_here()

    def tick_in_block(self) -> None:
        """As `tick`, where parts of uncommitted transactions are set aside: nothing is cut."""
        self._publisher.check()
        if self._wanting_still:
            self._stand_still()

    def finish(self) -> None:
        """The stream ends in good order: whole transactions that wait are handed to the publisher."""
        if self._transaction is None and (self._has_content() or self._at != self._cut):
            self._cut_here()

    # --- cutting

    def _has_content(self) -> bool:
        return bool(self._register.bytes_waiting or self._marks or self._layouts)

    def _take_marks(self) -> list[Mark]:
        marks, self._marks = self._marks, []
        self._marks_before = 0
        return marks

    def _cut_here(self) -> None:
        if self._pending_open is not None:
            self._abandon()  # what is cut here may not stand inside its series
        self._put_stream(self._register.take(), self._take_marks(), self._at, None, 0)

    def _put_stream(
        self, batches: list[Batch], marks: list[Mark], position: Position, open_id: str | None, ordinals: int
    ) -> None:
        self._cut, self._cut_at = position, time.monotonic()
        if open_id is None:
            batches = batches + self._side.take()
        layouts, self._layouts = self._layouts, {}
        self._put(StreamWork(batches, str(position), marks, open_id, ordinals, self._source_ms, layouts))

    def _put(self, work: Work) -> None:
        self._publisher.put(work, self._pause)

    def _on_durable(self, record: CommitRecord, work: Work, streaming: list[TableId]) -> None:
        """From the publisher's thread: `record` is in the log."""
        self.durable = self._register.parse(record.position)
        if isinstance(work, StreamWork):
            for mark in work.marks:
                if mark.load is not None:
                    self._planner.marker_durable(TableId(mark.marker.schema, mark.marker.table))
        if isinstance(work, StreamWork | AbandonWork):
            for marker in record.markers:
                if marker.kind == "reload":
                    self._planner.marker_durable(TableId(marker.schema, marker.table))
        if isinstance(work, ChunkWork):
            failpoint("capture.chunk_durable")
        for table in streaming:
            self._planner.finished(table)
        self.wake()

    # --- waiting and standing still

    def _pause(self) -> None:
        """While the stream waits for something: keep the source's connection alive, let snapshots be taken."""
        self.keepalive()
        if self._wanting_still:
            self._stand_still()

    def _wait(self) -> None:
        self._publisher.check()
        self._planner.check()
        self.keepalive()
        with self._changed:
            self._parked = True
            self._changed.notify_all()
            self._changed.wait(0.02)
            while self._wanting_still:
                self._changed.wait(0.02)
            self._parked = False

    def _stand_still(self) -> None:
        while self._wanting_still:
            self.keepalive()
            with self._changed:
                self._parked = True
                self._changed.notify_all()
                self._changed.wait(0.05)
                if not self._wanting_still:
                    self._parked = False

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def standing_still(self) -> Iterator[bool]:
        """For load threads: the stream stands between two of its steps while the body runs. Gives False, without
        waiting for ever, when the stream has ended."""
        with self._changed:
            self._wanting_still += 1
            while not self._parked and not self.stopping:
                self._changed.wait(0.1)
            parked = self._parked
        try:
            yield parked
        finally:
            with self._changed:
                self._wanting_still -= 1
                self._changed.notify_all()
