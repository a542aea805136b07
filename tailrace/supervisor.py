"""The supervisor: one capture process and one process per sink as children, kept alive until the work is done.

A child that was killed is started again after a pause that grows; a child that ended with an error needs a person, and
so does the run: capture's end ends it, and so does that of the last sink, while the other sinks of a pipeline go on
without one (rule A7). A child's stdin is its life line: it closes with this process, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from tailrace.boundary import error_json
from tailrace.display import Display
from tailrace.lifeline import DRAIN_SECONDS, Lifeline
from tailrace.monitor import RUN, pipeline_status
from tailrace.pipeline import open_event_log
from tailrace.processes import CAPTURE, sink_role
from tailrace.state import StateFolder
from tailrace_schemas.errors import EXIT_DONE, EXIT_ERROR, TailraceError
from tailrace_schemas.settings import PipelineSettings, resolve_settings
from tailrace_schemas.settings_yaml import password_variables, write_settings

log = logging.getLogger(__name__)

# -P: the folder the user stands in must not offer modules to import.
PROGRAM = (sys.executable, "-P", "-m", "tailrace")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STEADY_SECONDS = 60.0  # a child that lived this long starts again after the first pause
TICK_SECONDS = 0.1
SHOW_SECONDS = 1.0


@dataclass(slots=True)
class Child:
    """One process. `done`: its work is finished; `failed`: its exit code when it needs a person."""

    role: str
    command: list[str]
    process: subprocess.Popen[str] | None = None
    started_at: float = 0.0
    next_start: float = 0.0
    pause: float = FIRST_PAUSE
    restarts: int = 0
    done: bool = False
    failed: int | None = None
    error: dict[str, Any] | None = None
    forwarder: threading.Thread | None = field(default=None, repr=False)

    @property
    def over(self) -> bool:
        return self.done or self.failed is not None

    def tell(self, words: str) -> None:
        """Write a line to its life line; a child that is gone hears nothing."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError, ValueError):
                self.process.stdin.write(words + "\n")
                self.process.stdin.flush()


class Supervisor:
    """Runs one pipeline on one machine. `flags` go to every child (log level and format, connect timeout)."""

    def __init__(
        self,
        settings: PipelineSettings,
        state: StateFolder,
        life: Lifeline,
        display: Display,
        environment: Mapping[str, str],
        flags: list[str],
        until_current: bool,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._settings, self._state, self._life, self._display = settings, state, life, display
        self._bounded = until_current or settings.mode == "full-load"
        self._environment = dict(environment) | password_variables(settings)
        tail = [str(state.pipeline_file), "--state", str(state.path), "--supervised", *flags]
        capture = Child(CAPTURE, [*program, "capture", *tail, *(["--until-current"] if until_current else [])])
        # Typer takes options anywhere, so the sink's name may follow them.
        sinks = [Child(sink_role(sink.name), [*program, "sink", *tail, sink.name]) for sink in settings.sinks]
        self._capture, self._sinks = capture, sinks
        self._children = [capture, *sinks]
        self._sentence = ""
        self._until: int | None = None
        self._shown_at = 0.0
        self._all_ran = False

    def run(self) -> int:
        """Until the work is done, a person is needed, or the life line says to end; returns the exit code.

        Raises:
            TailraceError: of the log, when its end has to be read.
        """
        self._state.write_pipeline(write_settings(self._settings))
        try:
            while not self._life.stop.is_set():
                for child in self._children:
                    self._tend(child)
                code = self._verdict()
                if code is not None:
                    return code
                self._show(self._word())
                self._life.stop.wait(TICK_SECONDS)
            return EXIT_DONE
        finally:
            self._end_children()
            self._show("failed" if self._failure() else "stopped", now=True)

    def failures(self) -> list[tuple[str, dict[str, Any]]]:
        """(role, error as JSON) of the children that need a person."""
        return [(child.role, child.error) for child in self._children if child.failed is not None and child.error]

    def _tend(self, child: Child) -> None:
        if child.over:
            return
        if child.process is None:
            if time.monotonic() >= child.next_start:
                self._start(child)
            return
        code = child.process.poll()
        if code is not None:
            self._ended(child, code)

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(
            child.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=self._environment,
            start_new_session=True,  # a Ctrl-C at the terminal reaches this process alone
        )
        child.started_at = time.monotonic()
        stderr = child.process.stderr
        assert stderr is not None
        child.forwarder = threading.Thread(target=_forward, args=(stderr, self._display.log_line), daemon=True)
        child.forwarder.start()
        if self._until is not None and child is not self._capture:
            child.tell(f"until {self._until}")

    def _ended(self, child: Child, code: int) -> None:
        assert child.process is not None
        pid = child.process.pid
        self._reap(child)
        last = self._state.read_status(child.role)
        own = last if last.get("pid") == pid else {}
        if code < 0:
            self._restart(child, f"was killed by {_signal_name(-code)}")
        elif own.get("finished"):
            child.done = True
            child.failed = code or None  # until-current with a table stopped
        elif code == 0:
            self._restart(child, "ended before its work was done")
        else:
            error = own.get("error") or _unknown(child.role, code)
            child.failed, child.error = code, error
            if child is not self._capture and not all(sink.over for sink in self._sinks):
                self._sentence = f"{child.role} stopped: {error['code']}: {error['message']}"
                self._display.say(f"{self._sentence}; the other sinks go on", process=child.role)

    def _restart(self, child: Child, what: str) -> None:
        if time.monotonic() - child.started_at >= STEADY_SECONDS:
            child.pause = FIRST_PAUSE
        self._sentence = f"{child.role} {what}; starting it again in {child.pause:g} s"
        self._display.say(self._sentence, process=child.role)
        child.restarts += 1
        child.next_start = time.monotonic() + child.pause
        child.pause = min(child.pause * 2, LONGEST_PAUSE)

    def _word(self) -> str:
        """`starting` until every child has said once that it runs."""
        if not self._all_ran:
            said = [self._state.read_status(child.role) for child in self._children]
            pids = [child.process.pid if child.process is not None else None for child in self._children]
            self._all_ran = all(
                child.over or (own.get("pid") == pid and own.get("state") == "running")
                for child, own, pid in zip(self._children, said, pids, strict=True)
            )
        return "running" if self._all_ran else "starting"

    def _verdict(self) -> int | None:
        """The exit code when the run is over, else None."""
        capture, sinks = self._capture, self._sinks
        if capture.failed is not None and not capture.done:
            return capture.failed
        if all(sink.over for sink in sinks) and any(sink.failed for sink in sinks):
            return self._failure()
        if capture.done and self._until is None:
            self._let_sinks_finish()
        if capture.done and all(sink.over for sink in sinks):
            return self._failure() or EXIT_DONE
        return None

    def _failure(self) -> int | None:
        return next((child.failed for child in self._children if child.failed), None)

    def _let_sinks_finish(self) -> None:
        """Capture is done: what the log holds now is all there will be."""
        resolved = resolve_settings(self._settings, self._environment, _read_text)
        with closing(open_event_log(resolved, self._state)) as event_log, closing(event_log.reader()) as reader:
            self._until = reader.last_seq()
        for sink in self._sinks:
            sink.done = sink.done or self._until < 0  # nothing was captured: there is nothing to wait for
            sink.tell(f"until {self._until}")

    def _end_children(self) -> None:
        self._show("stopping", now=True)
        running = [child for child in self._children if child.process is not None]
        for child in running:
            child.tell("stop")
        deadline = time.monotonic() + DRAIN_SECONDS + 1
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            self._reap(child)

    def _reap(self, child: Child) -> None:
        """Close the pipes of an ended child, after its last lines are through."""
        process, child.process = child.process, None
        assert process is not None
        if child.forwarder is not None:
            child.forwarder.join(5)
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _show(self, word: str, now: bool = False) -> None:
        if not now and time.monotonic() - self._shown_at < SHOW_SECONDS:
            return
        self._shown_at = time.monotonic()
        restarts = {child.role: child.restarts for child in self._children}
        frame = {"state": word, "sentence": self._sentence, "restarts": restarts, "pid": os.getpid()}
        self._state.write_status(RUN, frame | {"updated": time.time()})
        self._display.show(pipeline_status(self._settings, self._state))


def _forward(stream: TextIO, line: Callable[[str], None]) -> None:
    for text in stream:
        line(text.rstrip("\n"))


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _unknown(role: str, code: int) -> dict[str, Any]:
    error = TailraceError(
        f"{role} ended with exit code {code} and left no error",
        code="CHILD_ENDED",
        hint="look at its last lines in the log",
    )
    return error_json(error)


__all__ = ["EXIT_ERROR", "Child", "Supervisor"]
