"""A transaction of which the log holds a part when capture dies, and other tables captured when it comes again.

Events of such a transaction are known again by counting (rule C3): the count holds only while the tables are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import CrashError, LogReading, postgres_source, rebuild, running_capture
from fix_mysql import Sql, mysql_source
from fix_servers import wait_until

import tailrace_capture.feed
import tailrace_capture.mysql.protocol
import tailrace_capture.mysql.stream
from tailrace_capture.feed import Feed
from tailrace_capture.source import Source, Transaction
from tailrace_log.embedded import EmbeddedLog, EmbeddedWriter
from tailrace_log.log import Batch, CommitRecord
from tailrace_schemas.errors import TableStopError

pytestmark = pytest.mark.servers

Rows = dict[str, list[tuple[Any, ...]]]


class HalfLog(EmbeddedLog):
    """Its writer dies when the second part of a transaction is durable."""

    def writer(self, pipeline: str, sinks: list[str]) -> EmbeddedWriter:
        out = super().writer(pipeline, sinks)
        write, parts = out.write, list[int]()

        def dying(batches: list[Batch], record: CommitRecord) -> CommitRecord:
            done = write(batches, record)
            if done.open is not None:
                parts.append(done.seq)
            if len(parts) == 2:
                raise CrashError
            return done

        out.write = dying  # type: ignore[method-assign]
        return out


class Engine:
    """Tables a and b, loaded; `write` runs statements in one transaction, `insert` gives one for keys first … last."""

    def __init__(self, name: str, fresh: Any, folder: Path) -> None:
        self.postgres = name.startswith("POSTGRES")
        self.url, self.path, self._folder = fresh(name), folder / "log.db", folder
        self.write("CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE TABLE b (id int PRIMARY KEY, v text)")
        self.write("INSERT INTO a VALUES (0, 'loaded'), (-1, 'loaded')", "INSERT INTO b VALUES (0, 'loaded')")

    def write(self, *statements: str) -> None:
        if self.postgres:
            with psycopg.connect(self.url) as connection:
                for statement in statements:
                    connection.execute(statement)
        else:
            session = Sql(self.url)
            session.run("BEGIN", *statements, "COMMIT")
            session.close()

    @staticmethod
    def insert(table: str, first: int, last: int) -> str:
        return f"INSERT INTO {table} VALUES " + ",".join(f"({n}, '{n:0>60}')" for n in range(first, last + 1))

    def source(self, tables: Sequence[str]) -> Source:
        if self.postgres:
            return postgres_source(self.url, self._folder / "spool", tuple(f"public.{t}" for t in tables))
        return mysql_source(self.url, tables=tuple(f"{self.url.rpartition('/')[2]}.{t}" for t in tables))

    def run(self, tables: Sequence[str]) -> EmbeddedLog:
        """Capture until current."""
        log = EmbeddedLog(self.path, "t")
        with running_capture(self.source(tables), log, until_current=True) as capture:
            wait_until(lambda: not capture.thread.is_alive(), 60, "the end")
        return log

    def die(self, tables: Sequence[str]) -> None:
        """Capture until parts of the transaction are in the log."""
        log = HalfLog(self.path, "t")
        with pytest.raises(CrashError), running_capture(self.source(tables), log) as capture:
            wait_until(lambda: not capture.thread.is_alive(), 60, "the crash")

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        if self.postgres:
            with psycopg.connect(self.url) as connection:
                return sorted(connection.execute(f"SELECT * FROM {table}").fetchall())
        session = Sql(self.url)
        out = sorted(tuple(row) for row in session.run(f"SELECT * FROM {table}"))
        session.close()
        return out

    def in_log(self, log: EmbeddedLog) -> Rows:
        return {
            t.rpartition(".")[2]: sorted(tuple(r.values()) for r in rows.values()) for t, rows in rebuild(log).items()
        }


@pytest.fixture(params=["POSTGRES14", "POSTGRES18", "MYSQL80", "MARIADB118"])
def engine(
    request: pytest.FixtureRequest,
    postgres_database: Any,
    mysql_database: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Engine:
    monkeypatch.setattr(tailrace_capture.feed, "OPEN_BYTES", 20_000)
    monkeypatch.setattr(tailrace_capture.mysql.stream, "HOLD_BYTES", 10_000)
    monkeypatch.setattr(tailrace_capture.mysql.protocol, "RECEIVE_BYTES", 8192)
    name: str = request.param
    return Engine(name, postgres_database if name.startswith("POSTGRES") else mysql_database, tmp_path)


def big_transaction(engine: Engine, *between: str) -> None:
    """Events of both tables in turn, many parts."""
    turns = [engine.insert("ab"[n % 2], 100 * n + 1, 100 * n + 100) for n in range(30)]
    engine.write(*turns[:3], *between, *turns[3:], "DELETE FROM a WHERE id % 100 = 1", "DELETE FROM b WHERE id % 9 = 1")


def kinds(log: EmbeddedLog) -> list[str]:
    return [record.kind for record in LogReading(log).records()]


def test_a_table_that_is_selected_no_more(engine: Engine) -> None:
    engine.run("ab")
    big_transaction(engine)
    engine.die("ab")
    log = engine.run("a")
    assert engine.in_log(log) == {"a": engine.rows("a"), "b": [(0, "loaded")]}
    assert kinds(log).count("abandon") == 1


def test_a_table_that_comes_again(engine: Engine) -> None:
    engine.run("ab")
    engine.run("a")
    big_transaction(engine)
    engine.die("a")
    log = engine.run("ab")
    assert engine.in_log(log) == {"a": engine.rows("a"), "b": engine.rows("b")}
    assert kinds(log).count("abandon") == 1


def test_a_table_that_stops_among_events_that_are_in_the_log(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It did not when they were counted, as when a publication was altered meanwhile."""
    engine.run("ab")
    big_transaction(engine)
    engine.die("ab")
    begin: Callable[[Feed, Transaction], int] = Feed.begin
    skipped = []

    def stopping(feed: Feed, transaction: Transaction) -> int:
        skipped.append(begin(feed, transaction))
        b = next((table for table in feed.tables if table.name == "b"), None)
        if b is not None:
            feed.stop_table(b, TableStopError("not like this", code="UNKNOWN_TYPE", hint="none"))
        return skipped[-1]

    monkeypatch.setattr(Feed, "begin", stopping)
    log = engine.run("ab")
    assert skipped[0] > 0
    assert not any(skipped[1:])
    assert engine.in_log(log) == {"a": engine.rows("a"), "b": [(0, "loaded")]}
    assert kinds(log).count("abandon") == 1
    markers = [(m.kind, m.table) for record in LogReading(log).records() for m in record.markers]
    assert markers.count(("stopped", "b")) == 1


@pytest.mark.parametrize("statement", ["TRUNCATE a", "ALTER TABLE a ADD COLUMN w int DEFAULT 7"])
@pytest.mark.parametrize("engine", ["POSTGRES14", "POSTGRES18"], indirect=True)
def test_what_a_marker_did_in_the_part_left_out_is_done_again(engine: Engine, statement: str) -> None:
    engine.run("ab")
    new = "INSERT INTO a (id, v) VALUES ({0}, 'new')"
    turns = [engine.insert("b", 1, 300), statement, new.format(5), engine.insert("b", 301, 1500), new.format(6)]
    engine.write(*turns)
    engine.die("ab")
    log = engine.run("a")
    assert engine.in_log(log)["a"] == engine.rows("a")
    assert kinds(log).count("abandon") == 1


def test_the_same_tables_go_on_where_they_were(engine: Engine) -> None:
    engine.run("ab")
    big_transaction(engine)
    engine.die("ab")
    log = engine.run("ab")
    assert "abandon" not in kinds(log)
    assert engine.in_log(log) == {"a": engine.rows("a"), "b": engine.rows("b")}
