"""Specs played at one source: all their loads, then capture with all their streams, then what happens while it is down.
The log is read by fastavro, and applied to two targets: as one batch, and one log transaction at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from fix_capture import Event, LogReading, RunningCapture, postgres_source, running_capture
from fix_mysql import mysql_source
from fix_servers import POSTGRES_NAMES, fresh_mysql_database, fresh_postgres_database, wait_until
from specs.spec import CAUGHT_UP, Spec, Step

from tailrace_capture.source import Source
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.topic import commit_topic
from tailrace_schemas.uri import parse_database_url
from tailrace_sinks import mysql, postgres
from tailrace_sinks.batch import Limits
from tailrace_sinks.service import run_sink
from tailrace_sinks.sink import Sink, SinkConfig
from tailrace_sinks.status import SinkStatus

FENCE = "zz_fence"
MARKERS = ("truncate", "reload", "stopped")
Row = tuple[Any, ...]


class Place:
    """One database of any engine, with named sessions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_postgres = url.startswith("postgres")
        self.namespace = "public" if self.is_postgres else url.rpartition("/")[2]
        self._sessions: dict[str, Any] = {}
        self._plain: set[str] = set()  # columns that concat() does not take

    def run(self, sql: str, session: str = "") -> list[Row]:
        if session not in self._sessions:
            self._sessions[session] = self._connect()
        cursor = self._sessions[session].cursor()
        cursor.execute(sql.encode() if self.is_postgres else sql)
        return list(cursor.fetchall()) if cursor.description else []

    def _connect(self) -> Any:
        if self.is_postgres:
            connection = psycopg.connect(self.url, autocommit=True)
            connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'")
            return connection
        where = parse_database_url(self.url)
        return pymysql.connect(
            host=where.host,
            port=where.port,
            user=where.user,
            password=where.password.reveal() if where.password else "",
            database=where.database,
            charset="utf8mb4",
            autocommit=True,
            init_command="SET time_zone = '+00:00'",
        )

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def tables(self) -> dict[str, list[str]]:
        """Table → its columns in the order of their names; partitions are not tables."""
        query = (
            "SELECT c.relname, a.attname, '' FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND c.relpersistence = 'p' AND a.attnum > 0 AND NOT a.attisdropped"
            if self.is_postgres
            else "SELECT c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE FROM information_schema.COLUMNS c JOIN information_schema.TABLES t"
            " USING (TABLE_SCHEMA, TABLE_NAME) WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE LIKE '%TABLE%'"
        )
        out: dict[str, list[str]] = {}
        for table, column, kind in self.run(query):
            out.setdefault(table, []).append(column)
            self._plain |= {column} if kind == "vector" else set()
        return {table: sorted(columns) for table, columns in out.items()}

    def content(self, table: str, columns: list[str]) -> list[Row]:
        """Every row as the server's own text."""
        name = f'"{table}"' if self.is_postgres else f"`{table}`"
        return sorted(self.run(f"SELECT {', '.join(map(self._text, columns))} FROM {name}"), key=repr)

    def _text(self, column: str) -> str:
        if self.is_postgres:
            return f'"{column}"::text'
        name = "`" + column.replace("`", "``") + "`"
        return f"hex({name})" if column in self._plain else f"hex(concat('', {name}))"


@dataclass(slots=True)
class Play:
    """What came of the specs at one version."""

    version: str
    source: Place
    targets: list[Place]
    told: list[Event] = field(default_factory=list)

    def faults(self, spec: Spec) -> list[str]:
        return [*self._wrong_events(spec), *self._wrong_rows(spec)]

    def _wrong_events(self, spec: Spec) -> Iterator[str]:
        """Loaded rows in any order, the others of each table in theirs; only what the spec names is compared."""
        expected = [{"table": spec.table, **event} for event in spec.script(self.version).events]
        if not expected:
            return
        got = [event for event in self.told if spec.owns(event["table"])]
        for table in sorted({event["table"] for event in (*expected, *got)}):
            for loaded in (True, False):
                want = [e for e in expected if e["table"] == table and (e.get("op") == "r") == loaded]
                have = [e for e in got if e["table"] == table and (e.get("op") == "r") == loaded]
                yield from _differences(f"{spec.name} {table}", want, have, loaded)

    def _wrong_rows(self, spec: Spec) -> Iterator[str]:
        for target in self.targets:
            there = target.tables()
            for table, columns in self.source.tables().items():
                if not spec.owns(table):
                    continue
                if there.get(table) != columns:
                    yield f"{spec.name} {table}: columns {columns} became {there.get(table)}"
                elif (want := self.source.content(table, columns)) != (have := target.content(table, columns)):
                    lost, odd = [r for r in want if r not in have], [r for r in have if r not in want]
                    yield f"{spec.name} {table}: {columns}\n  {_short(lost)} became\n  {_short(odd)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 900 else f"{text[:600]} … {text[-280:]}"


def _told_short(event: Event) -> Event:
    return {name: _plain(event[name]) for name in ("marker", "code", "op", "key", "after") if name in event}


def _differences(where: str, want: list[Event], have: list[Event], any_order: bool) -> Iterator[str]:
    if len(want) != len(have):
        yield f"{where}: {len(want)} events expected, there are {len(have)}: {_short([_told_short(e) for e in have])}"
        return
    have = [_plain(event) for event in have]
    if any_order:
        want, have = (sorted(events, key=lambda e: json.dumps(e.get("after"))) for events in (want, have))
    for wanted, seen in zip(want, have, strict=True):
        part = {name: seen.get(name) for name in wanted}
        if json.dumps(part) != json.dumps(wanted):
            yield f"{where}:\n  expected {_short(wanted)}\n  was      {_short(_told_short(seen) | part)}"


def _plain(value: Any) -> Any:
    """A decoded event as JSON has it: bytes as `\\x…`, decimals as text."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(value) if isinstance(value, Decimal) else value


# ---- playing


@contextmanager
def played(version: str, specs: list[Spec], folder: Path) -> Iterator[Play]:
    """Source and targets are there inside the body."""
    is_postgres = version in POSTGRES_NAMES
    fresh = fresh_postgres_database if is_postgres else fresh_mysql_database
    with ExitStack() as stack:

        def place(name: str) -> Place:
            return stack.enter_context(_closing(Place(stack.enter_context(fresh(name)))))

        source = place(version)
        targets = [place("POSTGRES18" if is_postgres else "MARIADB118") for _ in range(2)]
        log = EmbeddedLog(folder / "log.db", "t")
        try:
            _capture(version, source, specs, log, folder)
            told = list(_told(log))
            for target, limits in zip(targets, (Limits(), Limits(rows=1)), strict=True):
                _run_all(target, version, specs, "target")
                _apply(log, source, target, limits)
        finally:
            log.close()
        yield Play(version, source, targets, told)


@contextmanager
def _closing(place: Place) -> Iterator[Place]:
    try:
        yield place
    finally:
        place.close()


def _capture(version: str, source: Place, specs: list[Spec], log: EmbeddedLog, folder: Path) -> None:
    def made() -> Source:
        return postgres_source(source.url, folder / "spool") if source.is_postgres else mysql_source(source.url)

    source.run(f"CREATE TABLE {FENCE} (id int PRIMARY KEY)")
    _run_all(source, version, specs, "load")
    with running_capture(made(), log) as capture:
        wait_until(lambda: _is_loaded(capture), 60, "the load is done")
        _run_all(source, version, specs, "stream", lambda: _catch_up(source, log, capture))
        _catch_up(source, log, capture)
    _run_all(source, version, specs, "down")
    with running_capture(made(), log, until_current=True) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


def _run_all(
    place: Place, version: str, specs: list[Spec], phase: str, wait: Callable[[], None] = lambda: None
) -> None:
    for spec in specs:
        for step in spec.script(version).steps[phase]:
            _run(place, spec, step, wait)
    place.close()


def _run(source: Place, spec: Spec, step: Step, wait: Callable[[], None]) -> None:
    if step.sql == CAUGHT_UP:
        wait()
        return
    try:
        source.run(step.sql, f"{spec.name} {step.session}")
    except (psycopg.Error, pymysql.MySQLError) as error:
        raise AssertionError(f"{spec.name}: {step.sql}: {error}") from error


def _is_loaded(capture: RunningCapture) -> bool:
    capture.check()
    tables = capture.status.tables
    return bool(tables) and all(table.state != "loading" for table in tables.values())


def _catch_up(source: Place, log: EmbeddedLog, capture: RunningCapture) -> None:
    """A row of the fence goes through."""
    ((number,),) = source.run(f"SELECT count(*) FROM {FENCE}")
    source.run(f"INSERT INTO {FENCE} VALUES ({number})")

    def is_there() -> bool:
        capture.check()
        rows = (value for topic, _, value in LogReading(log).events() if topic.endswith(FENCE) and value)
        return any("op" in value and value["after"]["id"] == number for value in rows)

    wait_until(is_there, 30, "the log is caught up")


def _told(log: EmbeddedLog) -> Iterator[Event]:
    """Events and the markers that change rows, with the name of their table."""
    for topic, key, value in LogReading(log).events():
        if value is None:
            continue
        if "op" in value:
            yield {**value, "key": key, "table": value["source"]["table"]}
        elif value["marker"] in MARKERS:
            yield {**value, "table": topic.rpartition(".")[2]}


def _apply(log: EmbeddedLog, source: Place, target: Place, limits: Limits) -> None:
    last = LogReading(log).records()[-1].seq
    config = SinkConfig("p", "s", commit_topic(log.prefix), log.log_id, {source.namespace: target.namespace})
    sink = _sink(target, config)
    status = SinkStatus("s")
    try:
        run_sink(
            log,
            sink,
            name=f"s{limits.rows}",
            stop=threading.Event(),
            status=status,
            until=lambda record: record.seq >= last,
            first_connect_seconds=0,
            limits=limits,
        )
    finally:
        sink.close()


def _sink(target: Place, config: SinkConfig) -> Sink:
    url = parse_database_url(target.url)
    if target.is_postgres:
        return postgres.open_sink(url, config)
    return mysql.open_sink(replace(url, options={"progress": f"{url.database}.zz_progress"}), config)
