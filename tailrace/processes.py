"""One capture process or one sink process, from its settings to its exit code.

The same code runs them as children of the supervisor and alone in a container. While it works a process holds its lock
in the state folder and writes its status there once a second; that file is how everybody else knows of it.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tailrace.boundary import Report, error_json
from tailrace.lifeline import Lifeline
from tailrace.pipeline import capture_settings, open_event_log, open_sink, open_source
from tailrace.state import ORPHAN_PATIENCE, StateFolder
from tailrace_capture.service import CaptureStatus, run_capture
from tailrace_log.log import CommitRecord, EventLog
from tailrace_schemas.errors import EXIT_DONE, EXIT_ERROR, RetryableError, TailraceError
from tailrace_schemas.position import parse_position
from tailrace_schemas.settings import PipelineSettings, resolve_settings
from tailrace_sinks.service import Until, run_sink
from tailrace_sinks.status import SinkStatus

log = logging.getLogger(__name__)

CAPTURE = "capture"
STATUS_SECONDS = 1.0
FOREVER = float("inf")

T = TypeVar("T")


def sink_role(name: str) -> str:
    """The name of a sink's process: in locks, status files and log lines."""
    return f"sink-{name}"


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """`connect_timeout` counts at the first start only; afterwards the process retries for ever."""

    until_current: bool = False
    connect_timeout: float = 30.0


def capture_process(settings: PipelineSettings, state: StateFolder, options: ProcessOptions, life: Lifeline) -> int:
    """Capture until told to end, or until current.

    Raises:
        TailraceError: a person is needed.
    """
    status = CaptureStatus()
    with _alive(settings, state, life, CAPTURE, lambda: capture_json(status)) as (resolved, timeout):
        event_log = _reach(lambda: open_event_log(resolved, state), timeout(options), life)
        if event_log is None:
            return EXIT_DONE
        with closing(event_log):
            source = open_source(resolved, state, event_log.log_id)
            wanted = capture_settings(resolved, options.until_current, timeout(options))
            run_capture(source, event_log, wanted, life.stop, status)
    stopped = [table for table, shown in status.tables.items() if shown.state == "stopped"]
    return EXIT_ERROR if stopped and options.until_current else EXIT_DONE


def sink_process(
    settings: PipelineSettings, name: str, state: StateFolder, options: ProcessOptions, life: Lifeline
) -> int:
    """Apply the log to one target until told to end, or until current.

    Raises:
        TailraceError: a person is needed.
    """
    wanted = settings.sink(name)
    status = SinkStatus(name)
    before = state.read_status(sink_role(name))
    with _alive(settings, state, life, sink_role(name), SinkReport(status, before)) as (resolved, timeout):
        event_log = _reach(lambda: open_event_log(resolved, state), timeout(options), life)
        if event_log is None:
            return EXIT_DONE
        seconds = timeout(options)
        with closing(event_log), closing(open_sink(resolved, resolved.sink(wanted.name), event_log.log_id)) as sink:
            run_sink(
                event_log,
                sink,
                name=name,
                stop=life.stop,
                status=status,
                until=_until(resolved, state, options, life),
                first_connect_seconds=None if seconds == FOREVER else seconds,
            )
    return EXIT_ERROR if status.refused_any and not life.stop.is_set() else EXIT_DONE


def _until(settings: PipelineSettings, state: StateFolder, options: ProcessOptions, life: Lifeline) -> Until:
    """When a sink has done its work: at the sequence its supervisor names, or, alone with --until-current, when it has
    applied what the source held at the start."""
    goal = _source_position(settings, state) if options.until_current else None

    def until(record: CommitRecord) -> bool:
        if life.until_seq is not None and record.seq >= life.until_seq:
            return True
        return goal is not None and record.consistent and parse_position(record.position).contains(goal)

    return until


def _source_position(settings: PipelineSettings, state: StateFolder) -> Any:
    source = open_source(settings, state)
    try:
        return source.current_position()
    finally:
        source.close()


def _reach(attempt: Callable[[], EventLog], timeout: float, life: Lifeline) -> EventLog | None:
    """What `attempt` opens, tried again while it cannot be reached; None when told to end meanwhile.

    Raises:
        LogUnavailableError: for `timeout` seconds.
    """
    deadline, pause = time.monotonic() + timeout, 0.2
    while not life.stop.is_set():
        try:
            return attempt()
        except RetryableError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the log cannot be reached, trying again: %s", error.message)
        life.stop.wait(pause)
        pause = min(pause * 2, 15.0)
    return None


@contextmanager
def _alive(
    settings: PipelineSettings,
    state: StateFolder,
    life: Lifeline,
    role: str,
    snapshot: Callable[[], dict[str, Any]],
) -> Iterator[tuple[PipelineSettings, Callable[[ProcessOptions], float]]]:
    """Hold the role's lock and keep its status file true; yields the resolved settings and the connect timeout."""
    state.make()
    lock = state.lock(role, ORPHAN_PATIENCE)
    known = bool(state.read_status(role).get("was_running"))
    writer = StatusWriter(state, role, snapshot, known)
    writer.start()
    try:
        resolved = resolve_settings(settings, os.environ, lambda path: Path(path).read_text(encoding="utf-8"))
        gc.freeze()  # modules and settings live as long as the process: no collection need look at them
        yield resolved, lambda options: FOREVER if known else options.connect_timeout
    except TailraceError as error:
        writer.finish({"state": "failed", "error": error_json(error)})
        raise
    else:
        writer.finish({"state": "stopped", "finished": not life.stop.is_set()})
    finally:
        writer.close()
        lock.release()


class StatusWriter:
    """Writes a process's status file once a second, and a last time at its end."""

    def __init__(self, state: StateFolder, role: str, snapshot: Callable[[], dict[str, Any]], known: bool) -> None:
        self._state, self._role, self._snapshot = state, role, snapshot
        self._was_running = known
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        self._write({})
        self._thread.start()

    def finish(self, last: dict[str, Any]) -> None:
        """`finished` in it: the work is done, as against told to end before."""
        self.close()
        self._write(last)

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(STATUS_SECONDS * 5)

    def _run(self) -> None:
        while not self._ended.wait(STATUS_SECONDS):
            self._write({})

    def _write(self, last: dict[str, Any]) -> None:
        data = self._snapshot()
        self._was_running = self._was_running or data.get("state") == "running"
        frame = {"process": self._role, "pid": os.getpid(), "updated": time.time(), "was_running": self._was_running}
        self._state.write_status(self._role, frame | data | last)


def status_reporter(state: StateFolder, role: str) -> Report:
    """Puts an error into the process's status file, for its supervisor to print."""

    def report(error: TailraceError) -> None:
        last = {"process": role, "pid": os.getpid(), "updated": time.time(), "state": "failed"}
        state.write_status(role, state.read_status(role) | last | {"error": error_json(error)})

    return report


class SinkReport:
    """What a sink process writes into its status file: its counts added to those of the processes before it, and the
    last schema change of each table. A process that was killed had noted its counts up to a second before, so that
    they are exact only while nobody kills."""

    def __init__(self, status: SinkStatus, before: dict[str, Any]) -> None:
        self._status, self._before = status, before
        self._changes: dict[str, dict[str, str]] = {
            name: table["last_schema_change"]
            for name, table in before.get("tables", {}).items()
            if table.get("last_schema_change")
        }

    def __call__(self) -> dict[str, Any]:
        out, before = self._status.to_json(), self._before
        self._note_changes(out["position"])
        out["applied"] = _sum(out["applied"], before.get("applied", {}))
        out["rows_loaded"] += before.get("rows_loaded", 0)
        tables = before.get("tables", {})
        for name in tables.keys() | out["tables"].keys():
            now = out["tables"].get(name, {"error": None})
            change = {"last_schema_change": self._changes.get(name)}
            out["tables"][name] = {**now, **_sum(now, tables.get(name, {})), **change}
        return out

    def _note_changes(self, position: str) -> None:
        with self._status.lock:
            last = {str(t): (counts.last_ddl, counts.last_action) for t, counts in self._status.tables.items()}
        for name, (ddl, action) in last.items():
            if ddl and self._changes.get(name, {}).get("ddl") != ddl:
                self._changes[name] = {"ddl": ddl, "action": action, "position": position}


def _sum(now: dict[str, Any], before: dict[str, Any]) -> dict[str, int]:
    """Counts by word; what is not a count is left out."""
    words = {word for counts in (now, before) for word, value in counts.items() if isinstance(value, int)}
    return {word: now.get(word, 0) + before.get(word, 0) for word in sorted(words)}


def capture_json(status: CaptureStatus) -> dict[str, Any]:
    return {
        "state": status.state,
        "sentence": status.sentence,
        "position": status.position,
        "identity": status.identity,
        "seq": status.seq,
        "transactions": status.transactions,
        "source_ms": status.source_ms,
        "error": status.error or None,
        "harm": status.harm,
        "tables": [
            {
                "name": str(table),
                "state": shown.state,
                "rows_loaded": shown.rows,
                "rows_estimate": shown.rows_estimate,
                "chunks_done": shown.chunks_done,
                "chunks_total": shown.chunks_total,
                "error": shown.error or None,
            }
            for table, shown in sorted(status.tables.items())
        ],
    }
