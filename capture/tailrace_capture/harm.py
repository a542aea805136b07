"""What capture costs its source: WAL kept by the slot, binary logs about to go, snapshots held open by the load.

An engine that can measure it has `harm` (`MeasuresHarm`), called every few seconds in a thread of its own over a
connection of its own. Each figure has up to three steps: warn, pause the load, stop. A stop loses nothing: position
and slot stay, and a person decides. A measurement that fails says nothing and stops nothing.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from tailrace_capture.snapshot import LoadPlanner
from tailrace_schemas.errors import RefusedError, RetryableError, StopError
from tailrace_schemas.position import Position

log = logging.getLogger("tailrace.capture")

LOOK_SECONDS = 5.0
LEFT_OF_LIMIT = 0.2  # of max_slot_wal_keep_size: below it the server itself is about to give the slot up


@dataclass(frozen=True, slots=True)
class Steps:
    """At which value what happens; None: never."""

    warn: float | None = None
    pause_load: float | None = None
    stop: float | None = None


@dataclass(frozen=True, slots=True)
class HarmLimits:
    """Settings `source.max_wal_kept` (bytes), `source.min_binlog_left` (seconds), `load.max_snapshot_seconds`."""

    max_wal_kept: Steps = Steps(warn=10e9)
    min_binlog_left: Steps = Steps(warn=6 * 3600)
    snapshot_warn: float | None = 1800
    snapshot_end: float | None = None


@dataclass(frozen=True, slots=True)
class Harm:
    """One measurement; None where the source has no such thing or does not tell.

    `wal_kept_bytes`: from the slot's restart_lsn to the end of the WAL; `wal_left_bytes`: safe_wal_size, what may still
    be written until the slot is lost; `wal_limit_bytes`: max_slot_wal_keep_size; `wal_status` as the server says.
    `binlog_behind_bytes`: from our position to the end; `binlog_spare_bytes`: kept logs before our position;
    `binlog_left_seconds`: until the log at our position may be purged, at the least; `binlog_expire_seconds`: 0 never.
    """

    slot: str = ""
    wal_kept_bytes: int | None = None
    wal_left_bytes: int | None = None
    wal_limit_bytes: int | None = None
    wal_status: str = ""
    binlog_oldest: str = ""
    binlog_behind_bytes: int | None = None
    binlog_spare_bytes: int | None = None
    binlog_expire_seconds: int | None = None
    binlog_left_seconds: int | None = None
    hint: str = ""


@runtime_checkable
class MeasuresHarm(Protocol):
    """The optional part of a Source."""

    def harm(self, position: Position, source_ms: int) -> Harm:
        """Measured now, for a log that stands at `position`, whose newest transaction was committed at `source_ms`
        (epoch milliseconds, 0: unknown). Called by one thread, over a connection that nothing else uses.

        Raises:
            SourceUnavailableError, RefusedError, StopError: it cannot be measured; nothing follows.
        """


Level = Literal["", "warn", "pause", "stop"]
_ORDER: tuple[Level, ...] = ("", "warn", "pause", "stop")


def level(value: float | None, steps: Steps, *, least: bool = False) -> Level:
    """The highest step that `value` has reached; with `least` it is bad to be low."""
    if value is None:
        return ""
    sign = -1 if least else 1
    reached: Level = ""
    for name, at in (("warn", steps.warn), ("pause", steps.pause_load), ("stop", steps.stop)):
        if at is not None and sign * value >= sign * at:
            reached = name  # type: ignore[assignment]
    return reached


@dataclass(frozen=True, slots=True)
class Trouble:
    """One figure past a step. `figure` names the setting that it is measured by."""

    level: Level
    figure: str
    message: str
    hint: str
    code: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "remedy": self.hint}


def troubles(harm: Harm, limits: HarmLimits, snapshot_seconds: float) -> list[Trouble]:
    """What is past a step, and what a person can do about it."""
    out = []
    if reached := level(harm.wal_kept_bytes, limits.max_wal_kept):
        out.append(_wal_kept(reached, harm))
    if harm.wal_status == "unreserved" or _nearly_lost(harm):
        out.append(_wal_left(harm))
    if reached := level(harm.binlog_left_seconds, limits.min_binlog_left, least=True):
        out.append(_binlog_left(reached, harm))
    if limits.snapshot_warn is not None and snapshot_seconds >= limits.snapshot_warn:
        out.append(_long_snapshot(snapshot_seconds))
    return out


def _nearly_lost(harm: Harm) -> bool:
    left, limit = harm.wal_left_bytes, harm.wal_limit_bytes
    return left is not None and bool(limit) and left < LEFT_OF_LIMIT * (limit or 0)


def _wal_kept(reached: Level, harm: Harm) -> Trouble:
    message = f"slot {harm.slot} keeps {_bytes(harm.wal_kept_bytes)} of WAL at the source"
    hint = "give the source disk space, let capture catch up, or raise source.max_wal_kept; "
    return Trouble(reached, "max_wal_kept", message, hint + harm.hint, code="WAL_KEPT")


def _wal_left(harm: Harm) -> Trouble:
    left = "no more" if harm.wal_left_bytes is None else _bytes(harm.wal_left_bytes)
    message = f"after {left} of WAL the source gives slot {harm.slot} up ({harm.wal_status})"
    hint = "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()"
    return Trouble("warn", "max_slot_wal_keep_size", message, hint, code="WAL_KEPT")


def _binlog_left(reached: Level, harm: Harm) -> Trouble:
    seconds = harm.binlog_left_seconds or 0
    message = f"the source may purge the binary log that is read next in {seconds:,} s"
    return Trouble(reached, "min_binlog_left", message, harm.hint, code="BINLOG_LEFT")


def _long_snapshot(seconds: float) -> Trouble:
    message = f"a snapshot of the load is open for {seconds:,.0f} s; the source keeps old row versions meanwhile"
    hint = "a smaller load.chunk_rows, or load.max_snapshot_seconds: {end: <seconds>}"
    return Trouble("warn", "max_snapshot_seconds", message, hint, code="SNAPSHOT_TOO_LONG")


def _bytes(count: int | None) -> str:
    return f"{(count or 0) / 1e6:,.1f} MB"


class HarmWatch:
    """Looks now and then, shows what it saw, pauses the load, and says when to stop. `look` is for one thread."""

    def __init__(self, source: object, limits: HarmLimits, planner: LoadPlanner, *, streaming: bool) -> None:
        self._source = source if isinstance(source, MeasuresHarm) and streaming else None
        self._limits, self._planner = limits, planner
        self._told: dict[str, Level] = {}
        self._unmeasured = False
        # Until the first look nothing is known: where a limit may hold the load back, it waits for that.
        pauses = (limits.max_wal_kept.pause_load, limits.min_binlog_left.pause_load)
        planner.paused = self._source is not None and any(step is not None for step in pauses)
        self.shown: dict[str, Any] = {}
        self.error: StopError | None = None

    def run(
        self, ended: threading.Event, position: Callable[[], tuple[Position, int]], stop: Callable[[], None]
    ) -> None:
        """Until `ended`, or until a threshold says stop: then `error` is set and `stop` called."""
        while True:
            self.look(*position())
            if self.error is not None:
                stop()
                return
            if ended.wait(LOOK_SECONDS):
                return

    def look(self, position: Position, source_ms: int) -> None:
        try:
            seconds = self._planner.end_long_snapshots(self._limits.snapshot_end)
        except StopError as error:
            self.error = error
            return
        harm = self._measured(position, source_ms)
        found = troubles(harm, self._limits, seconds)
        self._planner.paused = any(trouble.level in ("pause", "stop") for trouble in found)
        self._tell(found)
        self.shown = {word: value for word, value in asdict(harm).items() if word != "hint"} | {
            "snapshot_seconds": math.floor(seconds),
            "load_paused": self._planner.paused,
            "warnings": [trouble.to_json() for trouble in found],
            "measured": time.time(),
        }
        self.error = next((_stop(trouble) for trouble in found if trouble.level == "stop"), None)

    def _measured(self, position: Position, source_ms: int) -> Harm:
        if self._source is None:
            return Harm()
        try:
            return self._source.harm(position, source_ms)
        except (RetryableError, RefusedError, StopError) as error:
            if not self._unmeasured:
                log.warning("what is kept at the source cannot be measured: %s", error)
            self._unmeasured = True
            return Harm()

    def _tell(self, found: list[Trouble]) -> None:
        """Each trouble once, when it comes and when it gets worse."""
        now: dict[str, Level] = {trouble.figure: trouble.level for trouble in found}
        for trouble in found:
            before = self._told.get(trouble.figure, "")
            if _ORDER.index(trouble.level) > _ORDER.index(before):
                also = {"warn": "", "pause": "; the load waits", "stop": "; capture stops"}[trouble.level or "warn"]
                log.warning("%s%s (%s)", trouble.message, also, trouble.hint, extra={"code": trouble.code})
        self._told = now


def _stop(trouble: Trouble) -> StopError:
    return StopError(
        trouble.message,
        code=trouble.code,
        detail=f"{trouble.figure}.stop is reached; nothing is lost: the position is kept, the source was left as it is",
        hint=f"{trouble.hint}; then start again",
    )
