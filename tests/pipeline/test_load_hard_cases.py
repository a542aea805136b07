"""Hard cases of a load: its connections go, its log goes, commits wait, processes are killed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import RunningCapture, postgres_source, rebuild, running_capture
from fix_command import started, tailrace
from fix_mysql import Sql, mysql_source
from fix_servers import (
    POSTGRES_NAMES,
    fresh_mysql_database,
    fresh_postgres_database,
    private_server,
    wait_until,
)
from fix_versions import EVERY_POSTGRES, EVERY_SOURCE, NEWEST, each

from tailrace_capture.source import Source
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import TailraceError

pytestmark = pytest.mark.servers
ROWS = 4000
SLOWLY: dict[str, Any] = {"chunk_rows": 200, "readers": 1, "max_rows_per_second": 2500}


class Place:
    """A source database with a table `a` of ROWS rows, and a log."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.log = EmbeddedLog(folder / "log.db", "t")

    @property
    def is_postgres(self) -> bool:
        return self.url.startswith("postgresql")

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Each a transaction of its own; the rows of the last."""
        if not self.is_postgres:
            sql = Sql(self.url)
            try:
                return sql.run(*statements)
            finally:
                sql.close()
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def fill(self) -> None:
        values = ", ".join(f"({n}, 1, repeat('x', 100))" for n in range(ROWS))
        self.run("CREATE TABLE a (id int PRIMARY KEY, v int, t varchar(200))", f"INSERT INTO a VALUES {values}")

    def source(self) -> Source:
        return postgres_source(self.url, self.folder / "spool") if self.is_postgres else mysql_source(self.url)

    def end_sessions(self) -> None:
        if self.is_postgres:
            self.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        query = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
        for (number,) in self.run(query):
            self.run(f"KILL {number}")

    def drain(self) -> None:
        with running_capture(self.source(), self.log, until_current=True) as capture:
            wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")

    def refusal(self) -> str:
        with pytest.raises(TailraceError) as caught:
            self.drain()
        assert caught.value.hint
        return caught.value.code

    def is_equal(self) -> bool:
        (rows,) = rebuild(self.log).values()
        return sorted(tuple(row.values()) for row in rows.values()) == sorted(self.run("SELECT * FROM a"))


@contextmanager
def place(name: str, folder: Path) -> Iterator[Place]:
    with fresh_postgres_database(name) if name in POSTGRES_NAMES else fresh_mysql_database(name) as url:
        yield Place(url, folder)


def chunks(capture: RunningCapture) -> int:
    capture.check()
    return sum(table.chunks_done for table in capture.status.tables.values())


def streams(capture: RunningCapture) -> bool:
    capture.check()
    tables = capture.status.tables.values()
    return bool(tables) and all(table.state == "streaming" for table in tables)


@pytest.mark.parametrize("name", EVERY_SOURCE)
@pytest.mark.case("E9", verdict="=")
def test_a_load_whose_connections_are_closed_goes_on(name: str, tmp_path: Path) -> None:
    with place(name, tmp_path) as here:
        here.fill()
        with running_capture(here.source(), here.log, **SLOWLY) as capture:
            for done in (2, 8):
                wait_until(lambda done=done: chunks(capture) >= done, 30, "the load runs")  # type: ignore[misc]
                here.end_sessions()
                here.run(f"UPDATE a SET v = {done} WHERE id IN (1, {ROWS - 1})", f"DELETE FROM a WHERE id = {done}")
            wait_until(lambda: streams(capture), 60, "the load is done")
        here.drain()
        assert here.is_equal()


@pytest.mark.parametrize("name", EVERY_SOURCE)
@pytest.mark.case("E8", verdict="STOP(LOG_LOST) or STOP(SLOT_LOST)")
def test_a_load_that_outlives_the_sources_log_stops(name: str, tmp_path: Path) -> None:
    postgres = name in POSTGRES_NAMES
    code = "SLOT_LOST" if postgres else "LOG_LOST"
    config = "max_slot_wal_keep_size = 1\nmin_wal_size = 32MB\nmax_wal_size = 32MB" if postgres else ""
    with private_server(name, config=config) as server:
        url = server.url
        if not postgres:
            Place(url, tmp_path).run("CREATE DATABASE d")
            url += "d"
        here = Place(url, tmp_path)
        here.fill()
        with running_capture(here.source(), here.log, **SLOWLY) as capture:
            wait_until(lambda: chunks(capture) >= 2, 30, "the load runs")
        if postgres:
            for _ in range(4):
                here.run("UPDATE a SET v = v + 1 WHERE id = 1", "SELECT pg_switch_wal()")
            here.run("CHECKPOINT")
        else:
            # Twice: MariaDB keeps the file before the last one, for its own recovery.
            here.run(*["UPDATE a SET v = v + 1 WHERE id = 1", "FLUSH BINARY LOGS"] * 2)
            (*_, (last, *_)) = here.run("SHOW BINARY LOGS")
            here.run(f"PURGE BINARY LOGS TO '{last}'")
        assert here.refusal() == code


@pytest.mark.parametrize("version", each(POSTGRES_NAMES, NEWEST))
@pytest.mark.case("E15", verdict="=")
def test_a_commit_that_was_acknowledged_and_still_waits_at_a_restart_is_not_lost(version: str, tmp_path: Path) -> None:
    """The stream is past it and dropped its rows, since their chunks were to be read; no snapshot shows it yet (B4)."""
    config = "synchronous_standby_names = 'nobody'\nsynchronous_commit = local"
    with private_server(version, config=config) as server:
        here = Place(server.url, tmp_path)
        here.fill()

        def write() -> None:
            with psycopg.connect(server.url) as writer:
                writer.execute("SET synchronous_commit = on")
                writer.execute("UPDATE a SET v = 2 WHERE id > 3500")
                writer.execute("DELETE FROM a WHERE id = 3999")
                writer.execute("INSERT INTO a VALUES (5000, 3, 'late')")

        writer = threading.Thread(target=write)
        with running_capture(here.source(), here.log, **SLOWLY) as capture:
            wait_until(lambda: chunks(capture) >= 2, 30, "the load runs")
            writer.start()
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            wait_until(lambda: here.run(waits), 20, "it waits")
            ((end,),) = here.run("SELECT pg_current_wal_flush_lsn()::text")
            passed = f"SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn >= '{end}'"
            wait_until(lambda: here.run(passed), 30, "the commit is acknowledged")
            assert not streams(capture), "the load was too quick"
        with running_capture(here.source(), here.log, **SLOWLY) as capture:
            assert not threading.Event().wait(2.0)
            assert not streams(capture)
            here.run("ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
            writer.join(20)
            wait_until(lambda: streams(capture), 60, "the load is done")
        here.drain()
        assert here.is_equal()


@pytest.mark.parametrize("version", EVERY_POSTGRES)
@pytest.mark.case("C5", verdict="=")
def test_prepared_transactions_outlive_a_killed_capture(
    version: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, target = postgres_database(version), postgres_database("POSTGRES18")
    here = Place(url, tmp_path)
    words = (url, target, "--name", url.rpartition("/")[2])
    here.run("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    assert tailrace(tmp_path, "run", *words, "--until-current").code == 0
    with started(tmp_path, "capture", *words) as capture:
        active = "SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND active"
        wait_until(lambda: here.run(active), 30, "it streams")
        for number in (2, 3):
            with psycopg.connect(url) as connection:
                connection.execute(f"INSERT INTO a VALUES ({number})".encode())
                connection.execute(f"PREPARE TRANSACTION '{words[3]}_{number}'".encode())
        capture.process.kill()
        capture.process.wait(20)
    here.run(f"COMMIT PREPARED '{words[3]}_2'", f"ROLLBACK PREPARED '{words[3]}_3'", "INSERT INTO a VALUES (4)")
    assert tailrace(tmp_path, "run", *words, "--until-current").code == 0
    assert sorted(Place(target, tmp_path).run("SELECT id FROM a")) == [(1,), (2,), (4,)]
