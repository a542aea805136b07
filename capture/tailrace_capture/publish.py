"""The publisher: log transactions, one after the other, each with its commit record (rules C1-C3).

A thread of its own, so that the next log transaction fills while this one becomes durable. It alone knows what the
log holds: sequence, position, open transaction, load states. What it has written is told to `on_durable`; what is
acknowledged to the source comes from there alone (rule A4).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tailrace_capture.load_state import TableLoad, table_key
from tailrace_capture.tables import TableRegister
from tailrace_log.log import Batch, CommitRecord, LogWriter, Marker, MarkerKind, OpenTransaction, RecordKind
from tailrace_schemas.errors import InvariantError, LogUnavailableError, TailraceError
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.position import Position
from tailrace_schemas.table import TableId

FULL_EVERY = 1000  # records between complete load states, so that a reader of the log's end need not go far back
RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Mark:
    """A marker and what it does to the table's load state: a reload restarts it with `bounds`, `load` is the state of a
    table new to the log, `layout` goes with a schema. Marker and state change stand in one record (rule C2)."""

    marker: Marker
    bounds: list[list[str]] | None = None
    load: TableLoad | None = None
    layout: str = ""


@dataclass(slots=True)
class StreamWork:
    """A cut of the stream. `open_id` is None when it ends at a source commit; then `position` is past that commit.
    Otherwise `position` is still before the open transaction and `ordinals` of its events are in the log with this.
    `layouts`: notes of the engine that changed without a schema change."""

    batches: list[Batch]
    position: str
    marks: list[Mark] = field(default_factory=list)
    open_id: str | None = None
    ordinals: int = 0
    source_ms: int = 0
    layouts: dict[TableId, str] = field(default_factory=dict[TableId, str])


@dataclass(slots=True)
class ChunkWork:
    """Rows of one chunk, or a slice of a keyless table's one chunk (`last` False until the last)."""

    table: TableId
    generation: int
    chunk: int
    batches: list[Batch]
    snapshot: str
    past: str
    rows: int
    last: bool = True


@dataclass(slots=True)
class AbandonWork:
    """The open transaction is not gone on with (rule C3). `marks`: what its own markers did, told again."""

    marks: list[Mark]


Work = StreamWork | ChunkWork | AbandonWork


class Publisher:
    """Owns the LogWriter. `put` blocks while the queue is full; `error` is set when the thread has ended by one."""

    def __init__(
        self,
        writer: LogWriter,
        pipeline: str,
        identity: dict[str, str],
        parse: Callable[[str], Position],
        register: TableRegister,
    ) -> None:
        self._register = register
        self.on_durable: Callable[[CommitRecord, Work, list[TableId]], None] = lambda *_: None
        self._writer, self._pipeline, self._identity = writer, pipeline, identity
        self._parse = parse
        self._generations: dict[TableId, int] = {}
        self._changed: set[TableId] = set()
        self._queue: queue.Queue[Work | None] = queue.Queue(maxsize=3)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._unwritten = 0
        self._count = threading.Lock()
        self.error: BaseException | None = None
        self.seq = -1
        self.position = ""
        self.open: OpenTransaction | None = None
        self.loads: dict[TableId, TableLoad] = {}
        self.source_ms = 0
        self._full_seq = -FULL_EVERY - 1
        self.series: dict[TableId, set[MarkerKind]] = {}

    def resume(self, records: list[CommitRecord], loads: dict[TableId, TableLoad]) -> None:
        """Continue after `records` (see `LogWriter.open`) with the load states folded from them. `series`: kinds of the
        markers that the open transaction has left in the log so far."""
        last = records[-1]
        self.seq, self.position, self.open = last.seq, last.position, last.open
        self.source_ms, self.loads = last.source_ms, loads
        for record in records:
            if last.open is not None and record.seq >= last.open.since and record.kind == "stream":
                for marker in record.markers:
                    self.series.setdefault(TableId(marker.schema, marker.table), set()).add(marker.kind)

    def start(self) -> None:
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being written: a cut now would reach the log at once."""
        return self._unwritten == 0

    def put(self, work: Work, waiting: Callable[[], None]) -> None:
        """Hand over; while the queue is full, `waiting` is called every few milliseconds.

        Raises:
            the error that ended the publisher.
        """
        with self._count:
            self._unwritten += 1
        while True:
            self.check()
            try:
                self._queue.put(work, timeout=0.02)
                return
            except queue.Full:
                waiting()

    def check(self) -> None:
        """
        Raises:
            the error that ended the publisher.
        """
        if self.error is not None:
            raise self.error

    def close(self, seconds: float) -> None:
        """Write what was put, then end the thread; what is not written within `seconds` is left for the next start."""
        if self._thread.is_alive():
            deadline = time.monotonic() + seconds
            while self._unwritten and self.error is None and time.monotonic() < deadline:
                self._stopped.wait(0.01)
            self._stopped.set()
            self._thread.join(max(1.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    work = self._queue.get(timeout=0.1)
                except queue.Empty:
                    continue
                if work is not None:
                    if not self._stale(work):
                        self._write(work)
                    with self._count:
                        self._unwritten -= 1
        except BaseException as error:  # noqa: BLE001 - handed to the stream thread, which raises it
            self.error = error

    def _stale(self, work: Work) -> bool:
        """Rows of a chunk read before the table started again may not follow the reload marker (rule B10)."""
        if not isinstance(work, ChunkWork):
            return False
        load = self.loads.get(work.table)
        return load is None or load.state == "stopped" or work.generation != self._generations.get(work.table, 0)

    def _write(self, work: Work) -> None:
        record, batches = self._record(work)
        failpoint("capture.before_log_write")
        while True:
            try:
                written = self._writer.write(batches, record)
                break
            except LogUnavailableError:
                if self._stopped.wait(RETRY_SECONDS):
                    raise
        failpoint("capture.after_log_write")
        self.seq, self.position, self.open = written.seq, written.position, written.open
        self.source_ms = written.source_ms
        if written.load_full:
            self._full_seq = written.seq
        streaming = [table for table in self._changed if self.loads[table].state == "streaming"]
        self.on_durable(written, work, streaming)

    def _record(self, work: Work) -> tuple[CommitRecord, list[Batch]]:
        """The record of one log transaction; chunk states are those before it, changed by what it holds (rule C2)."""
        kind: RecordKind = "stream"
        position, open_, since = self.position, self.open, None
        markers: list[Marker] = []
        batches: list[Batch] = []
        changed: set[TableId] = set()
        seq = self.seq + 1
        source_ms = self.source_ms
        if isinstance(work, StreamWork):
            batches, position = work.batches, work.position
            self._check_forward(position)
            markers = [mark.marker for mark in work.marks]
            source_ms = max(source_ms, work.source_ms)
            open_ = None
            if work.open_id is not None:
                first = self.open.since if self.open is not None else seq
                open_ = OpenTransaction(work.open_id, work.ordinals, first)
            changed |= self._change_loads(work.marks, work.layouts)
        elif isinstance(work, ChunkWork):
            kind, batches = "chunk", work.batches
            load = self.loads[work.table]
            load.rows += 0 if work.last else work.rows
            if work.last:
                load.chunk_done(work.chunk, work.snapshot, work.past, work.rows)
            changed.add(work.table)
        else:
            kind, open_ = "abandon", None
            since = None if self.open is None else self.open.since
            markers = [mark.marker for mark in work.marks]
            changed |= self._change_loads(work.marks, {})
        changed |= self._forget(position)
        self._changed = changed
        full = open_ is None and seq - self._full_seq > FULL_EVERY
        tables = self.loads if full else changed
        record = CommitRecord(
            seq=seq,
            pipeline=self._pipeline,
            kind=kind,
            identity=self._identity,
            position=position,
            open=open_,
            since=since,
            markers=tuple(markers),
            load={table_key(table): self.loads[table].to_json() for table in tables},
            load_full=full,
            consistent=open_ is None and all(load.state != "loading" for load in self.loads.values()),
            source_ms=source_ms,
            written_ms=time.time_ns() // 1_000_000,
        )
        return record, batches

    def _check_forward(self, position: str) -> None:
        """Rule A4: what was acknowledged may be gone at the source, so a record that goes back would lose it.

        Raises:
            InvariantError
        """
        if self.position in ("", position) or self._parse(position).contains(self._parse(self.position)):
            return
        raise InvariantError(
            "the stream went back behind what is in the log",
            detail=f"it is at {position}, the log at {self.position}",
            hint="nothing was written; report it with the source's kind and version",
            position=position,
        )

    def _change_loads(self, marks: list[Mark], layouts: dict[TableId, str]) -> set[TableId]:
        changed = set()
        for mark in marks:
            table = TableId(mark.marker.schema, mark.marker.table)
            if mark.load is not None:
                self.loads[table] = mark.load
            if mark.marker.kind == "schema":
                self.loads[table].value_id = mark.marker.data["value_schema_id"]
                self.loads[table].layout = mark.layout
            elif mark.bounds is not None:
                self._restart(table, mark.bounds)
            elif mark.marker.kind == "stopped":
                self.loads[table].stop(mark.marker.data)
            else:
                continue
            changed.add(table)
        for table, layout in layouts.items():
            self.loads[table].layout = layout
            changed.add(table)
        return changed

    def _restart(self, table: TableId, bounds: list[list[str]]) -> None:
        self.loads[table].restart(bounds)
        self._generations[table] = self._generations.get(table, 0) + 1

    def _forget(self, position: str) -> set[TableId]:
        """Rule B11: a snapshot is forgotten in the first record whose own position is past it."""
        waiting = {table: load for table, load in self.loads.items() if load.snapshots}
        if not waiting:
            return set()
        here = self._parse(position)
        out = set()
        for table, load in waiting.items():
            passed = [chunk for chunk, (_, past) in load.snapshots.items() if here.contains(self._parse(past))]
            if passed:
                load.forget(passed)
                out.add(table)
        return out


def stop_note(error: TailraceError) -> dict[str, str]:
    """What a stopped table's state and marker say."""
    message = error.message + (f": {error.detail}" if error.detail else "")
    return {
        "code": error.code,
        "message": message,
        "remedy": error.hint,
        "position": error.position or "",
        "column": error.column or "",
    }
