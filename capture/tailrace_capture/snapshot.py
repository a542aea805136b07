"""The load: chunks of tables read under snapshots while the stream runs (rules B1-B13).

Each chunk gets its own snapshot S, taken while the stream stands still and given to that chunk at that moment, so no
chunk ever holds an S without being read (rule B3 then has nothing to give back). For a change of transaction T that
concerns a chunk: no S, or T visible in S: dropped; else published after the chunk's rows (rule B1).
The executable model of the rule is `tests/model/snapshot_rule.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from tailrace_capture.load_state import TableLoad
from tailrace_capture.publish import ChunkWork, Publisher
from tailrace_capture.source import (
    ChunkRows,
    KeyOrder,
    SchemaChange,
    Snapshot,
    SnapshotReader,
    Source,
    TableFeed,
    TableMovedError,
)
from tailrace_log.log import Batch
from tailrace_schemas.errors import TABLE_AGAIN, RetryableError, StopError, TableStopError
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.table import TableId, TableSchema

if TYPE_CHECKING:
    from tailrace_capture.feed import Feed

log = logging.getLogger("tailrace.load")

ChunkState = Literal["none", "reading", "done"]
Verdict = Literal["drop", "truncate", "restart"]
REFUSED_PAUSE = 0.02
SMALLER = 4  # into so many pieces a chunk is cut whose snapshot lasted too long
_NO_ACTIONS = {"NO ACTION", "RESTRICT"}


@dataclass(slots=True)
class _Chunk:
    state: ChunkState = "none"
    snapshot: Snapshot | None = None  # None with state done: forgotten


class LiveLoad:
    """One table in load, as the stream and the load threads see it.

    `lock` guards the chunks. `generation` counts how often the table has started again in this run; the publisher
    counts the same way and drops rows of an earlier one. No S is taken while `pending_markers` are not durable (rule
    B10).
    """

    def __init__(self, feed: TableFeed, bounds: list[list[str]], order: KeyOrder | None, together: bool) -> None:
        self.feed, self.bounds, self.order, self.together = feed, bounds, order, together
        self.lock = threading.Lock()
        self.chunks = [_Chunk() for _ in range(len(bounds) + 1)]
        self.generation = 0
        self.pending_markers = 0
        self.blocked = False
        self.claimed: set[int] = set()
        self.rows = 0

    @property
    def in_slices(self) -> bool:
        """One chunk whose rows reach the log bit by bit, behind a reload marker (rule B13): a table without a key, or
        tables that are read together."""
        return self.together or not self.feed.schema.key

    def chunk_of(self, key: bytes | None) -> int:
        if self.order is None or key is None or not self.bounds:
            return 0
        return self.order.chunk_of(key)

    def free_chunk(self) -> int | None:
        """A chunk that nobody reads and that has not been read."""
        with self.lock:
            for chunk, state in enumerate(self.chunks):
                if state.state == "none" and chunk not in self.claimed:
                    return chunk
        return None

    def at(self, chunk: int) -> tuple[ChunkState, Snapshot | None]:
        found = self.chunks[chunk]
        return found.state, found.snapshot

    def truncate(self, ref: object) -> Verdict:
        """Rule B9 for a TRUNCATE by the transaction `ref`."""
        with self.lock:
            seen = [c.snapshot is not None and c.snapshot.sees(ref) for c in self.chunks]
            if all(c.state == "none" or sees for c, sees in zip(self.chunks, seen, strict=True)):
                return "drop"
            if any(c.state != "done" or sees for c, sees in zip(self.chunks, seen, strict=True)):
                return "restart"
            return "truncate"

    def restart(self, bounds: list[list[str]], order: KeyOrder | None, feed: TableFeed, generation: int) -> None:
        with self.lock:
            self.feed, self.bounds, self.order = feed, bounds, order
            self.chunks = [_Chunk() for _ in range(len(bounds) + 1)]
            self.generation = generation
            self.pending_markers += 1
            self.claimed = set()
            self.blocked = False
            self.rows = 0

    def done_chunks(self) -> int:
        return sum(chunk.state == "done" for chunk in self.chunks)


class SnapshotTooLongError(Exception):
    """The chunk's transaction was ended by `LoadPlanner.end_long_snapshots`; its rows count for nothing."""


@dataclass(slots=True)
class _Job:
    """A chunk to read; of several tables when they are read together. `reading`: the one being read. `since`: when its
    snapshot was taken (monotonic, 0: not yet); `reader`: by which; `too_long`: it has to end."""

    lives: tuple[LiveLoad, ...]
    chunk: int
    generations: tuple[int, ...]
    reading: LiveLoad
    since: float = 0.0
    reader: SnapshotReader | None = None
    too_long: bool = False

    @property
    def current(self) -> bool:
        return tuple(live.generation for live in self.lives) == self.generations


@dataclass(slots=True)
class LoadPlanner:
    """The tables in load, and the threads that read them. `chunk_rows`, `readers`: settings of the load."""

    source: Source
    readers: int = 4
    chunk_rows: int = 50_000
    max_rows_per_second: int | None = None
    streaming: bool = True
    lives: dict[TableId, LiveLoad] = field(default_factory=dict)
    _generations: dict[TableId, int] = field(default_factory=dict)
    _families: dict[TableId, tuple[TableId, ...]] = field(default_factory=dict)
    _tied: dict[TableId, TableSchema] = field(default_factory=dict)
    shared: list[SnapshotReader] = field(default_factory=list)  # mode full-load: readers of one moment
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _reader: Callable[[], threading.Thread] | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _attempt: int = field(default_factory=time.time_ns)
    _error: BaseException | None = None
    _budget_at: float = 0.0
    paused: bool = False  # no further chunk is begun
    _jobs: list[_Job] = field(default_factory=list)  # chunks being read now
    _cuts: dict[TableId, int] = field(default_factory=dict)  # into how many a chunk of the settings is cut
    _shared_since: float = 0.0

    # --- what the feed asks

    def live(self, table: TableId) -> LiveLoad | None:
        return self.lives.get(table)

    def loading(self, table: TableId) -> bool:
        return table in self.lives

    def tie(self, schemas: Iterable[TableSchema]) -> None:
        """Tables bound by foreign-key actions that the source does not log are read together, under one snapshot: else
        a parent's delete that its own chunk already shows would leave children whose chunk does not (rule D7)."""
        if self.source.logs_cascades or not self.streaming:
            return
        self._tied |= {schema.table: schema for schema in schemas}
        known = self._tied
        groups: dict[TableId, set[TableId]] = {}
        for table, schema in known.items():
            for key in schema.foreign_keys:
                if key.parent in known and not {key.on_delete, key.on_update} <= _NO_ACTIONS:
                    group = groups.get(table, {table}) | groups.get(key.parent, {key.parent})
                    groups |= dict.fromkeys(group, group)
        self._families = {table: tuple(sorted(group)) for table, group in groups.items()}

    def together(self, table: TableId) -> tuple[TableId, ...]:
        """The tables that are read together with this one, itself among them."""
        return self._families.get(table, (table,))

    def _bounds(self, schema: TableSchema) -> list[list[str]]:
        rows = max(1, self.chunk_rows // self._cuts.get(schema.table, 1))
        return [] if schema.table in self._families else self.source.plan(schema, rows)

    def restart(self, feed: TableFeed) -> list[list[str]]:
        """Every chunk of the table has no snapshot again; returns the new bounds (rule B10)."""
        table = feed.schema.table
        bounds = self._bounds(feed.schema)
        order = self.source.key_order(feed, bounds) if bounds else None
        self._generations[table] = self._generations.get(table, 0) + 1
        live = self.lives.get(table)
        if live is None:
            live = LiveLoad(feed, bounds, order, table in self._families)
            live.restart(bounds, order, feed, self._generations[table])
            with self._lock:
                self.lives[table] = live
        else:
            live.together = table in self._families
            live.restart(bounds, order, feed, self._generations[table])
        feed.buffer.judged = True
        self._staff()
        return bounds

    def bounds_now(self, table: TableId) -> list[list[str]]:
        live = self.lives.get(table)
        return [] if live is None else live.bounds

    def stop(self, table: TableId) -> None:
        with self._lock:
            self.lives.pop(table, None)

    def marker_durable(self, table: TableId) -> None:
        live = self.lives.get(table)
        if live is not None and live.pending_markers:
            with live.lock:
                live.pending_markers -= 1

    def finished(self, table: TableId) -> None:
        """The publisher's state says that every snapshot of the table is forgotten: its changes need no judgement."""
        live = self.lives.get(table)
        if live is None:
            return
        with live.lock:
            again = live.pending_markers or any(chunk.state != "done" for chunk in live.chunks)
        if not again:
            live.feed.buffer.judged = False
            with self._lock:
                self.lives.pop(table, None)
            log.info("table loaded", extra={"table": str(table), "rows": live.rows})

    # --- start and resume

    def adopt(self, feed: TableFeed, load: TableLoad, *, announced: bool = True) -> None:
        """Take over a table in load from the state in the log."""
        order = self.source.key_order(feed, load.bounds) if load.bounds else None
        live = LiveLoad(feed, load.bounds, order, feed.schema.table in self._families)
        for chunk, letter in enumerate(load.chunks):
            if letter == "d":
                text = load.snapshots.get(chunk)
                live.chunks[chunk] = _Chunk("done", None if text is None else self.source.snapshot_from_text(text[0]))
        live.rows = load.rows
        live.pending_markers = 0 if announced else 1
        feed.buffer.judged = True
        with self._lock:
            self.lives[feed.schema.table] = live

    def plan(self, feed: TableFeed) -> TableLoad:
        """Plan a table's first load and take it up. It begins once the table's announcement is in the log."""
        load = TableLoad.fresh(self._bounds(feed.schema))
        self.adopt(feed, load, announced=False)
        self._staff()
        return load

    def start(self, feed: Feed, publisher: Publisher) -> None:
        self._reader = lambda: threading.Thread(target=self._run, args=(feed, publisher), name="load", daemon=True)
        self._shared_since = time.monotonic() if self.shared else 0.0
        self._staff(len(self.shared) or 1)

    def _staff(self, fewest: int = 0) -> None:
        """A thread for each chunk, at most `readers`. Readers of one moment are as many as they are."""
        with self._lock:
            chunks = sum(len(live.chunks) for live in self.lives.values()) if self.streaming else 0
            while self._reader is not None and len(self._threads) < max(fewest, min(self.readers, chunks)):
                self._threads.append(self._reader())
                self._threads[-1].start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def check(self) -> None:
        """
        Raises:
            the error that ended a load thread.
        """
        if self._error is not None:
            raise self._error

    # --- a load thread

    def _run(self, feed: Feed, publisher: Publisher) -> None:
        try:
            with self._lock:
                reader = self.shared.pop() if self.shared else None
            reader = reader or self.source.reader()
            try:
                while not self._stop.is_set() and not feed.stopping:
                    job = self._next()
                    if job is None:
                        self._stop.wait(0.05)
                        continue
                    try:
                        if not self._chunk(job, reader, feed, publisher):
                            self._stop.wait(REFUSED_PAUSE)
                    except SnapshotTooLongError:
                        reader.close()
                        reader = self.source.reader()
                        self._smaller(job, feed)
                    finally:
                        self._unclaim(job)
            finally:
                reader.close()
        except BaseException as error:  # noqa: BLE001 - handed to the stream thread, which raises it
            self._error = error
            feed.wake()

    def _next(self) -> _Job | None:
        if self.paused:
            return None
        with self._lock:
            for table, live in self.lives.items():
                members = tuple(self.lives[member] for member in self.together(table) if member in self.lives)
                if any(member.pending_markers or member.blocked for member in members):
                    continue
                chunk = live.free_chunk()
                if chunk is None or (len(members) > 1 and not all(member.free_chunk() == 0 for member in members)):
                    continue
                for member in members:
                    member.claimed.add(chunk)
                return _Job(members, chunk, tuple(member.generation for member in members), live)
        return None

    def _unclaim(self, job: _Job) -> None:
        for live, generation in zip(job.lives, job.generations, strict=True):
            with live.lock:
                if live.generation == generation:
                    live.claimed.discard(job.chunk)

    def _chunk(self, job: _Job, reader: SnapshotReader, feed: Feed, publisher: Publisher) -> bool:
        """Read one chunk; False when its snapshot was refused and it is to be tried again later."""
        snapshot = self._take(job, reader, feed)
        if snapshot is None:
            return False
        failpoint("capture.snapshot_taken")
        try:
            with self._counted(job, reader):
                self._read(job, snapshot, reader, publisher)
        except TableMovedError as moved:
            self._moved(job, feed, moved)
        except TableStopError as error:
            self._stopped(job, feed, error)
        except (RetryableError, SnapshotTooLongError) as error:
            self._set(job, _Chunk())
            feed.wake()
            if job.too_long:
                raise SnapshotTooLongError from error
            raise
        except BaseException:
            self._set(job, _Chunk())
            feed.wake()
            raise
        reader.end()
        feed.wake()
        return True

    @contextmanager
    def _counted(self, job: _Job, reader: SnapshotReader) -> Iterator[None]:
        """While its snapshot is open a job can be ended from outside."""
        job.since, job.reader = time.monotonic(), reader
        with self._lock:
            self._jobs.append(job)
        try:
            yield
        finally:
            with self._lock:
                self._jobs.remove(job)

    def end_long_snapshots(self, limit: float | None) -> float:
        """Age in seconds of the oldest snapshot that is open. Those older than `limit` are ended: their chunks are read
        again in smaller pieces, or their tables stop. One that all tables share (mode full-load) cannot be cut; it ends
        the load.

        Raises:
            StopError: that one (code SNAPSHOT_TOO_LONG).
        """
        now = time.monotonic()
        with self._lock:
            jobs = list(self._jobs)
        if self._shared_since:
            age = now - self._shared_since if self.lives else 0.0
            if limit is not None and age > limit:
                message = f"the one snapshot of mode full-load is open for {age:,.0f} s"
                detail = "it cannot be cut into smaller ones"
                raise StopError(message, code="SNAPSHOT_TOO_LONG", detail=detail, hint=_WAIT_LONGER)
            return age
        ages = [now - job.since for job in jobs]
        for job, age in zip(jobs, ages, strict=True):
            if limit is not None and age > limit and not job.too_long:
                job.too_long = True
                assert job.reader is not None
                job.reader.abort()
        return max(ages, default=0.0)

    def _take(self, job: _Job, reader: SnapshotReader, feed: Feed) -> Snapshot | None:
        with feed.standing_still() as still:
            if not still or not job.current or any(live.pending_markers for live in job.lives):
                return None
            try:
                snapshot = reader.begin([live.feed for live in job.lives])
            except RetryableError as error:
                log.warning("snapshot refused: %s", error)
                return None
            if self.streaming and not self.source.accepts(snapshot):
                reader.end()
                return None
            self._set(job, _Chunk("reading", snapshot))
            return snapshot

    def _read(self, job: _Job, snapshot: Snapshot, reader: SnapshotReader, publisher: Publisher) -> None:
        """Rows of a chunk go to the log in one log transaction; those in slices as they come, and only when all tables
        read together are there does the chunk count as done."""
        for live in job.lives:
            job.reading = live
            low = live.bounds[job.chunk - 1] if job.chunk else None
            high = live.bounds[job.chunk] if job.chunk < len(live.bounds) else None
            slices: list[ChunkRows] = []
            for piece in reader.read(live.feed, low, high, self._name(job.chunk)):
                if job.too_long:
                    raise SnapshotTooLongError
                self._slow_down(piece.rows, job)
                if live.in_slices:
                    self._put(job, live, snapshot, [piece], publisher, last=False)
                else:
                    slices.append(piece)
            if len(job.lives) == 1:
                self._put(job, live, snapshot, slices, publisher, last=True)
        if len(job.lives) > 1:
            for live in job.lives:
                self._put(job, live, snapshot, [], publisher, last=True)
        if job.current:
            self._set(job, _Chunk("done", snapshot))

    def _name(self, chunk: int) -> str:
        with self._lock:
            self._attempt += 1
            return f"{chunk}:{self._attempt}"

    def _put(
        self,
        job: _Job,
        live: LiveLoad,
        snapshot: Snapshot,
        slices: list[ChunkRows],
        publisher: Publisher,
        *,
        last: bool,
    ) -> None:
        rows = sum(piece.rows for piece in slices)
        publisher.put(
            ChunkWork(
                table=live.feed.schema.table,
                generation=job.generations[job.lives.index(live)],
                chunk=job.chunk,
                batches=_joined(live.feed.topic, slices),
                snapshot=snapshot.to_text(),
                past=str(snapshot.past),
                rows=rows,
                last=last,
            ),
            lambda: self._still_running(job),
        )
        live.rows += rows

    def _still_running(self, job: _Job) -> None:
        if self._stop.is_set():
            raise InterruptedError
        if job.too_long:
            raise SnapshotTooLongError

    def _set(self, job: _Job, chunk: _Chunk) -> None:
        """The chunk's state, in every table of the job that has not started again meanwhile."""
        for live, generation in zip(job.lives, job.generations, strict=True):
            with live.lock:
                if live.generation == generation:
                    live.chunks[job.chunk] = replace(chunk)

    def _moved(self, job: _Job, feed: Feed, moved: TableMovedError) -> None:
        self._set(job, _Chunk())
        live = job.reading
        table = live.feed.schema.table
        if not job.current or live.blocked:
            return
        live.blocked = True
        log.warning("table changed under the load, it starts again", extra={"table": str(table)})
        feed.request(_restart(feed, table, moved))

    def _stopped(self, job: _Job, feed: Feed, error: TableStopError) -> None:
        """Its rows cannot be read: this table stops, the others go on (rule A7)."""
        self._set(job, _Chunk())
        live = job.reading
        table = live.feed.schema.table
        if not job.current or live.blocked:
            return
        live.blocked = True

        def act() -> None:
            others = [member for member in self.together(table) if member != table and member in self.lives]
            feed.stop_table(table, error)
            if others:
                feed.reload(others[0])  # rows of a half read group may be in the log

        feed.request(act)

    def _smaller(self, job: _Job, feed: Feed) -> None:
        """The table starts again in smaller chunks; where it has no smaller ones it stops."""
        live = job.reading
        table = live.feed.schema.table
        if not job.current or live.blocked:
            return
        self._cuts[table] = self._cuts.get(table, 1) * SMALLER
        if live.in_slices or len(self._bounds(live.feed.schema)) <= len(live.bounds):
            self._stopped(job, feed, _too_long(time.monotonic() - job.since, "its chunk cannot be cut further"))
            return
        live.blocked = True
        log.warning("snapshot ended, the table starts again in smaller chunks", extra={"table": str(table)})
        feed.request(lambda: feed.reload(table) if table in feed.tables else None)

    def _slow_down(self, rows: int, job: _Job) -> None:
        if self.max_rows_per_second is None:
            return
        with self._lock:
            self._budget_at = max(self._budget_at, time.monotonic()) + rows / self.max_rows_per_second
            until = self._budget_at
        while (pause := until - time.monotonic()) > 0 and not self._stop.wait(min(pause, 0.1)):
            if job.too_long:
                raise SnapshotTooLongError


_WAIT_LONGER = "raise load.max_snapshot_seconds.end, or load when less is going on"


def _too_long(seconds: float, detail: str) -> TableStopError:
    message = f"a snapshot of the load was open for {seconds:,.0f} s and was ended"
    return TableStopError(message, code="SNAPSHOT_TOO_LONG", detail=detail, hint=f"{_WAIT_LONGER}; {TABLE_AGAIN}")


def _restart(feed: Feed, table: TableId, moved: TableMovedError) -> Callable[[], None]:
    def act() -> None:
        if table not in feed.tables:
            return
        if moved.schema is None:
            feed.table_gone(table)
        elif moved.schema != feed.tables[table].schema:
            feed.change_schema(SchemaChange(moved.schema, moved.layout, renamed={}, reload=True))
        else:
            feed.reload(table)

    return act


def _joined(topic: str, slices: list[ChunkRows]) -> list[Batch]:
    """One batch per partition."""
    parts: dict[int, tuple[int, list[bytes]]] = {}
    for piece in slices:
        for partition, count, frames in piece.parts:
            before, chunks = parts.get(partition, (0, []))
            parts[partition] = (before + count, [*chunks, frames])
    return [Batch(topic, partition, count, b"".join(chunks)) for partition, (count, chunks) in sorted(parts.items())]
