"""The capture process, top to bottom: open the log, resume, load and stream, publish, until told to stop.

    source.stream ──▶ Feed ──▶ Publisher ──▶ EventLog          one thread reads the source, one writes the log
    SnapshotReader (load threads) ──▶ Publisher                 chunks of tables in load, in the same queue

Every run starts from the last commit record in the log (rule C1); nothing else is remembered. A retryable error ends
the run, and the next one begins after a pause, and so does a source that no longer lets us in; any other error ends the
process.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from tailrace_capture.feed import Feed
from tailrace_capture.harm import HarmLimits, HarmWatch
from tailrace_capture.load_state import restore
from tailrace_capture.new_tables import GONE, NewTables
from tailrace_capture.publish import Publisher, StreamWork
from tailrace_capture.side_topics import SideTopics
from tailrace_capture.snapshot import LoadPlanner
from tailrace_capture.source import Resume, SchemaChange, Source
from tailrace_capture.tables import TableRegister
from tailrace_log.frames import Clock
from tailrace_log.log import EventLog
from tailrace_schemas.errors import RefusedError, RetryableError, StopError, TailraceError
from tailrace_schemas.position import Position
from tailrace_schemas.table import TableId

log = logging.getLogger("tailrace.capture")

Mode = Literal["full-load", "cdc", "full-load-and-cdc"]


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """`start`: with mode cdc and an empty log, `now` or a position. `sinks`: registered for the log's retention."""

    pipeline: str
    mode: Mode = "full-load-and-cdc"
    sinks: tuple[str, ...] = ()
    readers: int = 4
    chunk_rows: int = 50_000
    max_rows_per_second: int | None = None
    start: str | None = None
    until_current: bool = False
    key_bytes: bool = False
    heartbeat_seconds: float = 10.0
    transaction_metadata: bool = False
    foreign_truncate: bool = False
    connect_timeout: float = 30.0
    drain_seconds: float = 20.0
    harm: HarmLimits = field(default_factory=HarmLimits)


@dataclass(slots=True)
class TableStatus:
    state: str
    rows: int = 0
    rows_estimate: int = 0
    chunks_done: int = 0
    chunks_total: int = 0
    error: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CaptureStatus:
    """What the process shows; read by other threads, replaced value by value."""

    state: str = "starting"
    sentence: str = ""
    position: str = ""
    identity: dict[str, str] = field(default_factory=dict)
    seq: int = -1
    transactions: int = 0
    source_ms: int = 0
    tables: dict[TableId, TableStatus] = field(default_factory=dict)
    error: dict[str, str] = field(default_factory=dict)
    harm: dict[str, Any] = field(default_factory=dict)


def run_capture(
    source: Source, event_log: EventLog, settings: CaptureSettings, stop: threading.Event, status: CaptureStatus
) -> None:
    """Capture until `stop` is set (then what was read is published and the call returns), or with `until_current`
    until the log covers what the source held at the start.

    Raises:
        PositionLostError, StopError, ConfigError …: a person is needed; the position in the log is kept, and named
            where the error has none of its own.
        SourceUnavailableError, LogUnavailableError: only before the first successful start within `connect_timeout`.
        RefusedError: only before the first successful start, at once.
    """
    deadline = time.monotonic() + settings.connect_timeout
    pause = 0.2
    started, first = False, True
    while not stop.is_set():
        run = _Run(source, event_log, settings, stop, status, first=first)
        try:
            if run.go():
                return
            started, pause = True, 0.2
        except (RetryableError, RefusedError) as error:
            given_up = isinstance(error, RefusedError) or time.monotonic() > deadline
            if not started and status.state == "starting" and given_up:
                raise
            reason = f"{error.message}: {error.detail}" if error.detail else error.message
            status.sentence = f"waiting to start again: {reason}"
            log.warning("capture starts again in %.1f s: %s: %s", pause, error.code, reason)
            stop.wait(pause)
            pause = min(pause * 2, 15.0)
            started = started or status.state == "running"
        except TailraceError as error:
            error.position = error.position or status.position or None
            raise
        first = first and not run.wrote
    status.state = "stopped"


class _Run:
    """One run: from opening the log to the end of the stream."""

    def __init__(
        self,
        source: Source,
        event_log: EventLog,
        settings: CaptureSettings,
        stop: threading.Event,
        status: CaptureStatus,
        *,
        first: bool,
    ) -> None:
        """`first`: the process has just been started, by a person or after a crash: stopped tables are tried again. It
        holds until a run has written something: one that broke off before has tried nothing."""
        self._source, self._log, self._settings, self._stop, self._status = source, event_log, settings, stop, status
        self._first, self.wrote = first, False

    def go(self) -> bool:
        """True when the work is done (told to stop, or current)."""
        settings, source = self._settings, self._source
        writer = self._log.writer(settings.pipeline, list(settings.sinks))
        try:
            records = writer.open()
            clock = Clock()
            register = TableRegister(self._log, writer, clock, source.parse_position, settings.key_bytes)
            identity = source.identity()
            publisher = Publisher(writer, settings.pipeline, identity, source.parse_position, register)
            planner = LoadPlanner(source, settings.readers, settings.chunk_rows, settings.max_rows_per_second)
            if settings.mode == "full-load":
                planner.streaming, planner.shared = False, source.consistent_readers(settings.readers)
            target = source.current_position() if settings.until_current else None
            moved = bool(records) and records[-1].identity != identity
            if records:
                loads = restore(records)
                publisher.resume(records, loads)
                self._status.position = publisher.position
                position = source.parse_position(publisher.position)
                if moved:
                    # A file's name means nothing on the server that the source was failed over to.
                    position = position.elsewhere()
                    publisher.position = str(position)
                resume = Resume(position, publisher.open)
                if settings.mode != "full-load":
                    pasts = [
                        source.parse_position(past) for load in loads.values() for _, past in load.snapshots.values()
                    ]
                    source.check(resume, records[-1].identity, pasts)
            else:
                first = source.current_position() if settings.mode == "full-load" else source.prepare(settings.start)
                resume = Resume(first, None)
                publisher.position = str(first)
            side = SideTopics(
                self._log,
                writer,
                clock,
                source.engine,
                identity.get("database", ""),
                heartbeat_seconds=settings.heartbeat_seconds,
                transactions=settings.transaction_metadata,
                truncates=settings.foreign_truncate,
            )
            feed = Feed(register, publisher, planner, clock, side, resume)
            self._take_up_tables(feed, register, planner, publisher)
            return self._stream(feed, planner, publisher, target, resume, moved)
        finally:
            source.close()
            writer.close()

    def _take_up_tables(self, feed: Feed, register: TableRegister, planner: LoadPlanner, publisher: Publisher) -> None:
        """Describe every table: those known to the log as they were left, new ones from their beginning."""
        load_new = self._settings.mode != "cdc"
        schemas = {schema.table: schema for schema in self._source.tables()}
        if not schemas and not publisher.loads:
            raise StopError("no table matches the selection", code="NO_TABLES", hint="look at `tables` of the pipeline")
        joined = self._source.joined()
        planner.tie(schemas.values())
        self._new = new = NewTables(feed, register, planner, publisher, load_new, self._source.estimate_rows)
        again: list[TableId] = []
        for table, schema in schemas.items():
            known = publisher.loads.get(table)
            tried = self._first or (known is not None and known.error.get("code") in GONE)
            if known is not None and known.state == "stopped" and not (tried and load_new):
                continue
            in_slices = not schema.key or len(planner.together(table)) > 1
            if known is None:
                if new.add(schema, self._source.layout(table)):
                    again.append(table)
                continue
            # As the log knows it: what has become of it since is found in the stream, at its place.
            before = register.announced(known.value_id)
            table_feed = register.describe(before, known.layout)
            if known.state == "stopped" or table in joined:
                log.warning("table starts again", extra={"table": str(table), "was": known.error.get("code", "")})
                if schema == before:
                    again.append(table)
                else:
                    feed.change_schema(SchemaChange(schema, self._source.layout(table), renamed={}, reload=True))
            elif known.state == "loading":
                planner.adopt(table_feed, known)
                if not known.loaded and (in_slices or self._settings.mode == "full-load"):
                    again.append(table)
        restarted: set[TableId] = set()
        for table in again:
            if table not in restarted:
                (feed.reload if table in publisher.loads else feed.start)(table)
                restarted.update(planner.together(table))
        for table in sorted(publisher.loads.keys() - schemas.keys()):
            if publisher.loads[table].state != "stopped":
                log.warning("table is no longer selected or no longer there", extra={"table": str(table)})
                feed.retire(table)
        new.estimates |= {table: self._source.estimate_rows(table) for table in planner.lives}

    def _stream(
        self,
        feed: Feed,
        planner: LoadPlanner,
        publisher: Publisher,
        target: Position | None,
        resume: Resume,
        moved: bool,
    ) -> bool:
        """`moved`: to another server, or another timeline, than the last record was written from."""
        publisher.start()
        if moved:
            # What was half published there may come otherwise here: it is abandoned, and published whole (rule C3).
            feed.idle(resume.position)
        resumed = publisher.seq
        watcher = threading.Thread(
            target=self._watch, args=(feed, planner, publisher, target), name="watch", daemon=True
        )
        ended = threading.Event()
        self._ended = ended
        streaming = self._settings.mode != "full-load"
        harm = HarmWatch(self._source, self._settings.harm, planner, streaming=streaming)
        self._harm = harm

        def stop() -> None:
            feed.stopping = True
            feed.wake()

        measurer = threading.Thread(
            target=harm.run, args=(ended, lambda: (feed.durable, publisher.source_ms), stop), name="harm", daemon=True
        )
        planner.start(feed, publisher)
        watcher.start()
        measurer.start()
        self._status.state, self._status.sentence = "running", ""
        try:
            if self._settings.mode == "full-load":
                self._only_load(feed, planner)
            else:
                self._source.stream(feed, resume)
            feed.finish()
            publisher.close(self._settings.drain_seconds)
            publisher.check()
            if harm.error is not None:
                raise harm.error
        finally:
            feed.stopping = True
            ended.set()
            feed.wake()
            planner.close()
            publisher.close(0)
            watcher.join(5)
            measurer.join(5)
            self.wrote = publisher.seq != resumed
            self._show(feed, planner, publisher)
        return True

    def _only_load(self, feed: Feed, planner: LoadPlanner) -> None:
        """Mode full-load: no stream; done when every table's rows of that one moment are in the log. After a crash the
        moment is gone, so the tables that were not finished start again."""
        while planner.lives and not feed.stopping:
            if all(live.done_chunks() == len(live.chunks) for live in list(planner.lives.values())):
                feed.idle(self._source.current_position())
            feed.tick()
            self._ended.wait(0.01)

    def _watch(self, feed: Feed, planner: LoadPlanner, publisher: Publisher, target: Position | None) -> None:
        """Beside the stream: keep the status true, end the stream when told to or when the log is current."""
        while not self._ended.wait(0.1):
            self._show(feed, planner, publisher)
            current = (
                target is not None
                and feed.settled
                and feed.durable.contains(target)
                and not planner.lives
                and all(load.state != "loading" for load in list(publisher.loads.values()))
            )
            if current or self._stop.is_set():
                feed.stopping = True
                feed.wake()

    def _show(self, feed: Feed, planner: LoadPlanner, publisher: Publisher) -> None:
        status = self._status
        status.position, status.seq = str(feed.durable), publisher.seq
        status.transactions, status.source_ms = feed.transactions, publisher.source_ms
        status.harm = self._harm.shown
        tables = {}
        for table, load in list(publisher.loads.items()):
            live = planner.live(table)
            shown = TableStatus(load.state, load.rows, error=load.error)
            if live is not None:
                shown.rows, shown.chunks_done, shown.chunks_total = live.rows, live.done_chunks(), len(live.chunks)
                shown.rows_estimate = self._new.estimates.get(table, 0)
            tables[table] = shown
        for table, error in list(feed.refused.items()):
            tables.setdefault(table, TableStatus("stopped", error=error))
        status.tables = tables


__all__ = ["CaptureSettings", "CaptureStatus", "StreamWork", "TableStatus", "run_capture"]
