"""What `run` shows while it works: progress bars and one status line on a terminal, plain lines elsewhere, or a JSON
object a line. Log lines of the processes pass through it, so that they do not tear the bars apart."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from tailrace.boundary import print_json

PLAIN_SECONDS = 10.0


class Display(Protocol):
    def say(self, sentence: str, **fields: object) -> None:
        """Something an operator should know: a start, a restart, an end."""

    def log_line(self, line: str) -> None:
        """A line that a child wrote to its stderr."""

    def show(self, status: dict[str, Any]) -> None:
        """The pipeline's status, about once a second."""

    def close(self) -> None: ...


def display(as_json: bool) -> Display:
    if as_json:
        return JsonDisplay()
    return TerminalDisplay() if sys.stdout.isatty() else PlainDisplay()


def size_text(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


OLD_SECONDS = 60.0


def harm_text(harm: dict[str, Any], now: float) -> str:
    """What the source keeps for us; empty where nothing was measured. `now`: epoch seconds: while capture does not run
    a slot keeps more and more, so the age of old figures is said."""
    parts = []
    if harm.get("wal_kept_bytes") is not None:
        kept, left = size_text(harm["wal_kept_bytes"]), harm["wal_left_bytes"]
        more = "" if left is None else f", slot lost after {size_text(left)} more"
        parts.append(f"slot {harm['slot']} keeps {kept} of WAL ({harm['wal_status']}{more})")
    if harm.get("binlog_behind_bytes") is not None:
        parts.append(f"{size_text(harm['binlog_behind_bytes'])} of binary log not read")
    if harm.get("binlog_left_seconds") is not None:
        parts.append(f"purged in {harm['binlog_left_seconds'] / 3600:,.1f} h at the earliest")
    if harm.get("snapshot_seconds"):
        parts.append(f"a snapshot open for {harm['snapshot_seconds']:,} s")
    if harm.get("load_paused"):
        parts.append("the load waits")
    if parts and (age := now - harm.get("measured", now)) > OLD_SECONDS:
        parts.append(f"measured {age / 60:,.0f} min ago and more since")
    return ", ".join(parts)


class Rate:
    """Applied rows and changes a second, over the time between two looks."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._rate = 0.0

    def of(self, count: int, now: float) -> float:
        if self._last is None or count < self._last[1]:
            self._last = (now, count)
        elif now - self._last[0] >= 0.9:
            self._rate = (count - self._last[1]) / (now - self._last[0])
            self._last = (now, count)
        return self._rate


def applied_count(sink: dict[str, Any]) -> int:
    return sum(int(sink["applied"][word]) for word in ("inserts", "updates", "deletes"))


def status_line(status: dict[str, Any], rates: dict[str, Rate], now: float) -> str:
    """One line: state, load, and per sink what is applied and how late it is."""
    loading = [table for table in status["tables"] if table["state"] in ("Before load", "Full load")]
    stopped = [table for table in status["tables"] if table["state"] == "Table error"]
    parts = [status["state"]]
    if loading:
        rows = sum(table["rows_loaded"] for table in status["tables"])
        parts.append(f"loading {len(loading)} of {len(status['tables'])} tables, {rows:,} rows")
    for sink in status["sinks"]:
        count, lag = applied_count(sink), sink["lag"]
        loaded = sink["rows_loaded"]
        rate = rates.setdefault(sink["name"], Rate()).of(loaded + count, now)
        seconds = lag["source_to_log_seconds"] + lag["log_to_target_seconds"]
        done = f"{loaded:,} rows loaded, {count:,} changes" if loaded else f"{count:,} changes"
        parts.append(f"{sink['name']}: {done}, {rate:,.0f}/s, lag {seconds:.1f} s")
    parts.append(f"log {size_text(status['log']['bytes'])}")
    if stopped:
        parts.append(f"{len(stopped)} tables stopped")
    return " · ".join(parts)


class JsonDisplay:
    def say(self, sentence: str, **fields: object) -> None:
        print_json({"event": "note", "sentence": sentence, **fields})

    def log_line(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    def show(self, status: dict[str, Any]) -> None:
        print_json({"event": "status", **status})

    def close(self) -> None: ...


class PlainDisplay:
    """A status line when it has changed, at most every ten seconds."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}
        self._said, self._said_at = "", -PLAIN_SECONDS

    def say(self, sentence: str, **_fields: object) -> None:
        self._print(sentence)

    def log_line(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    def show(self, status: dict[str, Any]) -> None:
        now = time.monotonic()
        line = status_line(status, self._rates, now)
        if line != self._said and now - self._said_at >= PLAIN_SECONDS:
            self._said, self._said_at = line, now
            self._print(line)

    def close(self) -> None: ...

    def _print(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class TerminalDisplay:
    """A bar for each table in load, and below them one status line."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._rates: dict[str, Rate] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._line = Text("starting")
        self._live = Live(self._picture(), console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def _picture(self) -> Group:
        return Group(self._bars, self._line)

    def say(self, sentence: str, **_fields: object) -> None:
        self._console.print(Text(sentence))

    def log_line(self, line: str) -> None:
        self._console.print(Text(line, style="dim"))

    def show(self, status: dict[str, Any]) -> None:
        for table in status["tables"]:
            self._bar(table)
        self._line = Text(status_line(status, self._rates, time.monotonic()), no_wrap=True, overflow="ellipsis")
        self._live.update(self._picture())

    def _bar(self, table: dict[str, Any]) -> None:
        name, rows = table["name"], table["rows_loaded"]
        if table["state"] != "Full load":
            if name in self._tasks:
                self._bars.remove_task(self._tasks.pop(name))
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name)
        # The total is the server's estimate; it grows with what was met.
        self._bars.update(self._tasks[name], completed=rows, total=max(rows, table["rows_estimate"], 1))

    def close(self) -> None:
        self._live.stop()
