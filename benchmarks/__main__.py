"""`python -m benchmarks`: load, stream and apply, each source over each log; prints a table, writes JSON.

A scenario is one source, one log, one target. In it four things are timed, each a `tailrace` process of its own with
nothing else to do: capture loads the filled table into the log; the sink applies that; capture streams a backlog of
changes; the sink applies those. Rows a second are those after the first commit record of the log, until the last
(capture), or the process's life less that of an idle one (sink); processor time is that of the whole process less an
idle one's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fix_servers import fresh_mysql_database, fresh_postgres_database, server, servers_outside_pytest

from benchmarks.measure import Usage, run
from benchmarks.workload import CHANGES, Database, MySql, Postgres
from tailrace_log.log import CommitRecord, EventLog
from tailrace_log.open import open_log
from tailrace_schemas.log_uri import parse_log_url
from tailrace_schemas.version import VERSION
from tailrace_schemas.wire import is_compiled

RESULTS = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True)
class Scenario:
    source: str
    log: str
    target: str

    @property
    def word(self) -> str:
        return {"POSTGRES18": "pg", "MYSQL80": "mysql", "MARIADB118": "mariadb"}[self.source]


SCENARIOS = [
    Scenario("POSTGRES18", "embedded", "POSTGRES18"),
    Scenario("POSTGRES18", "kafka", "POSTGRES18"),
    Scenario("MYSQL80", "embedded", "MARIADB118"),
    Scenario("MYSQL80", "kafka", "MARIADB118"),
    Scenario("MARIADB118", "embedded", "MARIADB118"),
    Scenario("MARIADB118", "kafka", "MARIADB118"),
]


@dataclass(frozen=True, slots=True)
class Figure:
    path: str
    rows_per_s: float
    cpu_us_per_row: float
    peak_rss_mb: float


def _database(stack: ExitStack, name: str) -> Database:
    if name.startswith("POSTGRES"):
        return Postgres(stack.enter_context(fresh_postgres_database(name)))
    return MySql(stack.enter_context(fresh_mysql_database(name)))


def _log_url(scenario: Scenario, folder: Path, name: str) -> str:
    if scenario.log == "embedded":
        return f"sqlite://{folder}/log.db"
    return f"{server('KAFKA').url}?registry={server('REGISTRY').url}&prefix={name}&partitions=4"


class Pipeline:
    """One scenario's commands and its log."""

    def __init__(self, scenario: Scenario, source: Database, target: Database, folder: Path) -> None:
        self.name = f"b{os.getpid()}{time.time_ns() % 10**9}"
        self._source, self._target, self._folder = source, target, folder
        self._log = _log_url(scenario, folder, self.name)
        self._flags = ("--state", str(folder / "state"), "--name", self.name, "--log", self._log)
        self._map: tuple[str, ...] = ()
        if not scenario.target.startswith("POSTGRES"):
            self._map = ("--map", f"{_database_name(source.url)}={_database_name(target.url)}")

    def capture(self) -> tuple[Usage, list[CommitRecord]]:
        before = self._last()
        usage = run("capture", self._source.url, *self._flags, "--until-current")
        return usage, self._records(before)

    def sink(self) -> Usage:
        """Up to the end of the log; `--until-current` would wait, since a source also writes to its log by itself."""
        ends = (self._source.url, self._target.url)
        return run("sink", *ends, *self._flags, *self._map, "--supervised", until=self._last())

    def _open(self) -> EventLog:
        return open_log(parse_log_url(self._log), prefix=self.name, state=self._folder)

    def _last(self) -> int:
        if self._log.startswith("sqlite") and not (self._folder / "log.db").exists():
            return -1
        log = self._open()
        reader = log.reader()
        try:
            return reader.last_seq()
        finally:
            reader.close()
            log.close()

    def _records(self, after: int) -> list[CommitRecord]:
        log = self._open()
        reader = log.reader()
        out: list[CommitRecord] = []
        try:
            while got := reader.commits(after, 1000, 0.5):
                out += got
                after = got[-1].seq
        finally:
            reader.close()
            log.close()
        return out


def _database_name(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


def _capture_rate(records: list[CommitRecord], rows: int) -> float:
    """Rows a second after the first record that holds rows: those of it were read before it was written."""
    holding = [record for record in records if record.ranges]
    sizes = [sum(r.last - r.first + 1 for r in record.ranges) for record in holding]
    seconds = (holding[-1].written_ms - holding[0].written_ms) / 1000 if holding else 0.0
    return rows * (1 - sizes[0] / sum(sizes)) / seconds if seconds > 0 else 0.0


def measure(scenario: Scenario, rows: int, changes: int) -> list[Figure]:
    """One run of a scenario."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source, target = _database(stack, scenario.source), _database(stack, scenario.target)
        source.make_table()
        source.fill(rows)
        pipeline = Pipeline(scenario, source, target, folder)
        load, load_records = pipeline.capture()
        load_apply = pipeline.sink()
        idle, _ = pipeline.capture()
        idle_sink = pipeline.sink()
        source.change(changes // CHANGES, rows)
        stream, stream_records = pipeline.capture()
        apply = pipeline.sink()
        if source.count() != target.count():
            raise RuntimeError(f"{source.count()} rows at the source, {target.count()} at the target")
    word, log, target_word = scenario.word, scenario.log, "pg" if scenario.target.startswith("POSTGRES") else "mysql"
    return [
        _figure(f"{word}_load_{log}", _capture_rate(load_records, rows), load, idle, rows),
        _figure(f"{log}_{target_word}_load({word})", _rate(load_apply, idle_sink, rows), load_apply, idle_sink, rows),
        _figure(f"{word}_stream_{log}", _capture_rate(stream_records, changes), stream, idle, changes),
        _figure(f"{log}_{target_word}({word})", _rate(apply, idle_sink, changes), apply, idle_sink, changes),
    ]


def _rate(usage: Usage, idle: Usage, rows: int) -> float:
    return rows / max(0.001, usage.wall_s - idle.wall_s)


def _figure(path: str, rate: float, usage: Usage, idle: Usage, rows: int) -> Figure:
    return Figure(path, rate, (usage.cpu_s - idle.cpu_s) / rows * 1e6, usage.peak_rss_mb)


def summary(figures: list[Figure]) -> list[dict[str, Any]]:
    """The median of each path, with its least and greatest rate."""
    out = []
    for path in dict.fromkeys(figure.path for figure in figures):
        mine = [figure for figure in figures if figure.path == path]
        rates = [figure.rows_per_s for figure in mine]
        out.append(
            {
                "path": path,
                "rows_per_s": round(statistics.median(rates)),
                "rows_per_s_min": round(min(rates)),
                "rows_per_s_max": round(max(rates)),
                "cpu_us_per_row": round(statistics.median(figure.cpu_us_per_row for figure in mine), 2),
                "peak_rss_mb": round(max(figure.peak_rss_mb for figure in mine)),
                "runs": len(mine),
                "machine": f"{os.cpu_count()} x {_processor()}, Python {platform.python_version()}",
                "at": time.strftime("%Y-%m-%d", time.gmtime()),
                "version": VERSION,
                "compiled": is_compiled(),
            }
        )
    return out


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="scenarios whose source or log contains this word")
    parser.add_argument("--output", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    figures: list[Figure] = []
    with servers_outside_pytest():
        for scenario in SCENARIOS:
            if wanted.only not in f"{scenario.word} {scenario.log} {scenario.source}":
                continue
            for turn in range(wanted.runs):
                got = measure(scenario, wanted.rows, wanted.changes)
                figures += got
                for figure in got:
                    print(
                        f"{turn + 1}/{wanted.runs} {figure.path:28} {figure.rows_per_s:>9,.0f} rows/s"
                        f" {figure.cpu_us_per_row:6.2f} µs/row {figure.peak_rss_mb:5.0f} MB",
                        flush=True,
                    )
    results = summary(figures)
    wanted.output.parent.mkdir(parents=True, exist_ok=True)
    wanted.output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{'path':28} {'rows/s':>9} {'least':>9} {'most':>9} {'µs/row':>7} {'MB':>5}")
    for row in results:
        print(
            f"{row['path']:28} {row['rows_per_s']:>9,} {row['rows_per_s_min']:>9,} {row['rows_per_s_max']:>9,}"
            f" {row['cpu_us_per_row']:>7} {row['peak_rss_mb']:>5}"
        )


if __name__ == "__main__":
    main()
