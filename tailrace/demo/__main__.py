"""The demo, top to bottom: server, sample shop, `tailrace run`, load, two kills, drain, comparison, summary.

Needs Python, the package and its extra `demo`; no Docker, no root, nothing outside a temporary folder. Ends with 0 only
if source and target are equal.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from tailrace.boundary import guarded, reporter
from tailrace.demo.compare import Compared, compare, row_counts
from tailrace.demo.load import Pulse, Traffic
from tailrace.demo.server import Server, running
from tailrace.state import StateFolder
from tailrace_schemas.errors import EXIT_DIFFERENT, EXIT_DONE, EXIT_ERROR, ConfigError, TailraceError

SCHEMA = "shop"
LOAD_SECONDS = 60.0
DRAIN_SECONDS = 60.0
PASSWORD = "TAILRACE_DEMO_PASSWORD"  # noqa: S105  # the name of a variable


@dataclass(slots=True)
class Story:
    """What happened, for the summary."""

    seeded_rows: int = 0
    load_seconds: float = 0.0
    kills: list[str] = field(default_factory=list)
    transactions: int = 0
    traffic_seconds: float = 0.0
    delays: list[float] = field(default_factory=list)
    drain_seconds: float = 0.0
    changes: int = 0
    exit_code: int = -1
    tables: list[Compared] = field(default_factory=list)

    @property
    def mismatches(self) -> int:
        return sum(not table.equal for table in self.tables)


class Demo:
    def __init__(self, console: Console, server: Server, folder: Path, seconds: float, rate: float) -> None:
        self._console, self._server, self._seconds, self._rate = console, server, seconds, rate
        self._state = StateFolder(folder / "state")
        self._log = folder / "tailrace.log"
        self._source, self._target = server.conninfo("shop"), server.conninfo("shop_copy")
        self.story = Story()

    def play(self) -> None:
        """
        Raises:
            TailraceError: the demo cannot go on.
        """
        self._seed()
        process = self._start()
        # Traffic begins at once, so that the first copy is made of tables that change.
        traffic, pulse = Traffic(self._source, self._rate, workers=3), Pulse(self._source, self._target)
        try:
            traffic.start()
            pulse.start()
            self._load(process, pulse)
            self._trouble(process, traffic)
            self._drain(process, traffic, pulse)
        finally:
            traffic.end()
            pulse.close()
            _end(process)
        self._say("comparing both databases by SQL checksums")
        self.story.tables = compare(self._source, self._target, SCHEMA)

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}")

    def _seed(self) -> None:
        self._say(f"Postgres runs on port {self._server.port}; making the sample shop")
        with psycopg.connect(self._server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("create database shop")
            connection.execute("create database shop_copy")
        with psycopg.connect(self._source, autocommit=True, options="-c synchronous_commit=off") as connection:
            connection.execute((files("tailrace.demo") / "shop.sql").read_bytes())
            connection.execute("analyze")
            counts = row_counts(connection, SCHEMA)
        self.story.seeded_rows = sum(counts.values())
        self._say(f"{self.story.seeded_rows:,} rows in {len(counts)} tables")

    def _start(self) -> subprocess.Popen[bytes]:
        url = self._server.url
        command = [sys.executable, "-P", "-m", "tailrace", "run", url("shop", PASSWORD), url("shop_copy", PASSWORD)]
        self._say("starting: tailrace run postgresql://…/shop postgresql://…/shop_copy")
        with open(self._log, "wb") as log:  # noqa: PTH123
            return subprocess.Popen(
                [*command, "--state", str(self._state.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {PASSWORD: self._server.password},
                start_new_session=True,
            )

    def _load(self, process: subprocess.Popen[bytes], pulse: Pulse) -> None:
        began = time.monotonic()
        self._wait(process, LOAD_SECONDS, "load every table", lambda: pulse.arrived > 0 and self._loaded())
        self.story.load_seconds = time.monotonic() - began
        pulse.measuring = True
        self._say(f"all tables loaded after {self.story.load_seconds:.1f} s, under load; streaming")

    def _trouble(self, process: subprocess.Popen[bytes], traffic: Traffic) -> None:
        """Traffic goes on for the rest of its time, and both processes are killed once meanwhile."""
        end = time.monotonic() + max(self._seconds - self.story.load_seconds, self._seconds / 2)
        third = (end - time.monotonic()) / 3
        for role in ("capture", "sink-postgres"):
            self._pause(process, traffic, third)
            self._kill(role)
        self._pause(process, traffic, end - time.monotonic())

    def _pause(self, process: subprocess.Popen[bytes], traffic: Traffic, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, seconds))
            raise self._ended(process)
        if traffic.error is not None:
            raise ConfigError("the load generator failed", detail=str(traffic.error))

    def _kill(self, role: str) -> None:
        pid = self._state.read_status(role)["pid"]
        os.kill(pid, signal.SIGKILL)
        self.story.kills.append(role)
        self._say(f"killed {role} (process {pid}) with SIGKILL")

    def _drain(self, process: subprocess.Popen[bytes], traffic: Traffic, pulse: Pulse) -> None:
        traffic.end()
        self.story.transactions, self.story.traffic_seconds = traffic.transactions, traffic.seconds
        self._say(f"{traffic.transactions:,} transactions in {traffic.seconds:.1f} s; draining")
        began = time.monotonic()
        if not pulse.last_word(DRAIN_SECONDS):
            raise self._failed(f"the target did not catch up within {DRAIN_SECONDS:.0f} s")
        self.story.drain_seconds = time.monotonic() - began
        self.story.delays = pulse.delays
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.story.exit_code = process.wait(35)
        if self.story.exit_code != EXIT_DONE:
            raise self._failed(f"SIGTERM should end it with 0 within 30 s, not {self.story.exit_code}")
        sinks = self._state.read_status("sink-postgres")
        self.story.changes = sum(sinks["applied"][word] for word in ("inserts", "updates", "deletes"))

    def _loaded(self) -> bool:
        tables = self._state.read_status("capture").get("tables", [])
        return bool(tables) and all(table["state"] == "streaming" for table in tables)

    def _wait(self, process: subprocess.Popen[bytes], seconds: float, what: str, done: Any) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if process.poll() is not None:
                raise self._ended(process)
            if time.monotonic() > deadline:
                raise self._failed(f"tailrace did not {what} within {seconds:.0f} s")
            time.sleep(0.05)

    def _ended(self, process: subprocess.Popen[bytes]) -> TailraceError:
        return self._failed(f"tailrace ended with {process.returncode}")

    def _failed(self, text: str) -> TailraceError:
        return TailraceError(text, code="DEMO", detail=self._log.read_text(errors="replace")[-3000:])


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(35)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _percentile(values: list[float], percent: int) -> str:
    if len(values) < 2:
        return "not measured"
    return f"{statistics.quantiles(values, n=100)[percent - 1] * 1000:,.0f} ms"


def _summary(console: Console, story: Story) -> None:
    table = Table("table", "rows", "checksum at the source", "checksum at the target", "", box=None, pad_edge=False)
    for one in story.tables:
        target = one.target_checksum or "no such table"
        table.add_row(
            one.table, f"{one.rows:,}", one.checksum, target, "equal" if one.equal else "[red]DIFFERENT[/red]"
        )
    console.print(table)
    rate = story.transactions / story.traffic_seconds
    rows = sum(one.rows for one in story.tables)
    lines = {
        "first copy": f"{story.seeded_rows:,} rows in {story.load_seconds:.1f} s, while they were changed",
        "load": f"{story.transactions:,} transactions in {story.traffic_seconds:.1f} s, {rate:,.0f} a second",
        "changes applied": f"about {story.changes:,}; a killed process takes its last second of counts along",
        "lag": f"p50 {_percentile(story.delays, 50)}, p99 {_percentile(story.delays, 99)}, the kills included",
        "kills": f"{len(story.kills)} with SIGKILL: {', '.join(story.kills)}",
        "drained in": f"{story.drain_seconds:.1f} s",
        "rows compared": f"{rows:,} in {len(story.tables)} tables",
        "mismatches": str(story.mismatches),
    }
    for name, value in lines.items():
        console.print(f"[bold]{name:16}[/bold] {value}")
    if rate < 1000:
        console.print("[yellow]this machine did not reach 1,000 transactions a second[/yellow]")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tailrace.demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the load runs")
    parser.add_argument("--rate", type=float, default=1200.0, help="transactions a second")
    words = parser.parse_args()
    console = Console(highlight=False)

    def work() -> int:
        with tempfile.TemporaryDirectory(prefix="tailrace-demo-") as folder, running() as server:
            demo = Demo(console, server, Path(folder), words.seconds, words.rate)
            demo.play()
            _summary(console, demo.story)
            if not demo.story.tables or len(demo.story.kills) < 2:
                return EXIT_ERROR
            return EXIT_DIFFERENT if demo.story.mismatches else EXIT_DONE

    return guarded(work, reporter(False))


if __name__ == "__main__":
    sys.exit(main())
