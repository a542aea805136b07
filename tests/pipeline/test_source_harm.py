"""What capture costs its source is measured, shown and bounded: the servers themselves say what the figures must be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import LogReading, RunningCapture, postgres_source, rebuild, running_capture
from fix_mysql import Sql, mysql_source, table_feed
from fix_servers import private_server, wait_until

from tailrace_capture import harm
from tailrace_capture.harm import HarmLimits, Steps
from tailrace_capture.mysql.connection import run
from tailrace_capture.mysql.headroom import binlog_harm
from tailrace_capture.postgres import slot
from tailrace_capture.postgres.snapshot import PgReader
from tailrace_capture.source import ChunkRows, SnapshotReader, TableFeed
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import SourceUnavailableError, StopError
from tailrace_schemas.position import FilePlace
from tailrace_schemas.table import TableId

pytestmark = pytest.mark.servers
A, FREE = TableId("public", "a"), TableId("public", "free")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harm, "LOOK_SECONDS", 0.2)


@pytest.fixture
def database(postgres_database: Callable[[str], str]) -> str:
    url = postgres_database("POSTGRES18")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, v text)")
        connection.execute("INSERT INTO a SELECT n, repeat('t', 100) FROM generate_series(1, 5000) n")
        connection.execute("CREATE TABLE free (v int)")
        connection.execute("INSERT INTO free SELECT n FROM generate_series(1, 100) n")
        connection.execute("CREATE TABLE other (v text)")
    return url


def _state(capture: RunningCapture, table: TableId) -> str:
    capture.check()
    return capture.status.tables[table].state if table in capture.status.tables else ""


def _loaded(capture: RunningCapture) -> bool:
    return {_state(capture, table) for table in (A, FREE)} == {"streaming"}


def _kept(url: str) -> int:
    """Bytes that the slot keeps, as the server says."""
    name = "tailrace_" + url.rpartition("/")[2]
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots"
            " WHERE slot_name = %s",
            (name,),
        ).fetchone()
    assert row is not None, "the slot is gone"
    return int(row[0])


def _run(
    url: str,
    folder: Path,
    log: EmbeddedLog,
    limits: HarmLimits,
    tables: tuple[str, ...] = ("public.a", "public.free"),
    **settings: Any,
) -> AbstractContextManager[RunningCapture]:
    return running_capture(postgres_source(url, folder / "spool", tables), log, harm=limits, **settings)


def test_a_slot_that_keeps_too_much_stops_the_capture_and_loses_nothing(database: str, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with _run(database, tmp_path, log, HarmLimits()) as capture:
        wait_until(lambda: _loaded(capture), 60, "both tables are loaded")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO a VALUES (9001, 'while nobody reads')")
        connection.execute("INSERT INTO other SELECT repeat('w', 1000) FROM generate_series(1, 20000)")
    kept = _kept(database)
    assert kept > 20_000_000
    with (
        pytest.raises(StopError) as stopped,
        _run(database, tmp_path, log, HarmLimits(Steps(1e6, None, 10e6))) as capture,
    ):
        capture.thread.join(30)
        assert capture.status.harm["wal_kept_bytes"] >= kept
        assert [warning["code"] for warning in capture.status.harm["warnings"]] == ["WAL_KEPT"]
    assert stopped.value.code == "WAL_KEPT"
    assert stopped.value.position == capture.status.position
    assert f"pg_drop_replication_slot('tailrace_{database.rpartition('/')[2]}')" in stopped.value.hint
    assert _kept(database) > 0
    with _run(database, tmp_path, log, HarmLimits(Steps(1e6, None, None))):
        wait_until(lambda: _has(log, 9001), 30, "the row is in the log")
    log.close()


@pytest.mark.slow
def test_what_the_server_leaves_a_slot_is_what_it_says_itself() -> None:
    with (
        private_server("POSTGRES18", config="max_slot_wal_keep_size=64MB\nmax_wal_size=32MB") as server,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        connection.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        connection.execute("CREATE TABLE w (v text)")
        found = slot.harm(connection, "s")
        assert (found.wal_limit_bytes, found.wal_status) == (64 << 20, "reserved")
        for _ in range(100):
            connection.execute("INSERT INTO w SELECT repeat('w', 1000) FROM generate_series(1, 1000)")
            row = connection.execute("SELECT safe_wal_size, wal_status FROM pg_replication_slots").fetchone()
            found = slot.harm(connection, "s")
            assert (found.wal_left_bytes, found.wal_status) == row
            if found.wal_left_bytes is not None and found.wal_left_bytes < 12 << 20:
                break
        (trouble,) = harm.troubles(found, HarmLimits(Steps(), Steps(), None, None), 0)
        assert trouble.code == "WAL_KEPT"
        assert trouble.hint == "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()"


def _has(log: EmbeddedLog, key: int) -> bool:
    return any(k == {"id": key} for topic, k, _ in LogReading(log).events() if topic == "t.public.a")


def test_the_load_waits_while_the_slot_keeps_too_much_and_the_stream_goes_on(database: str, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with _run(database, tmp_path, log, HarmLimits(Steps(pause_load=0))) as capture:
        wait_until(lambda: bool(capture.status.harm.get("load_paused")), 30, "the load is paused")
        before = capture.status.position
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("INSERT INTO a VALUES (9001, 'seen by no chunk yet')")
        wait_until(lambda: capture.status.position != before, 30, "the stream goes on")
        assert capture.status.tables[A].rows == 0
        capture.check()
    with _run(database, tmp_path, log, HarmLimits(Steps(pause_load=1e15))) as capture:
        wait_until(lambda: _loaded(capture), 60, "both tables are loaded")
    assert _has(log, 9001)
    log.close()


def _chunks(capture: RunningCapture) -> int:
    capture.check()
    return capture.status.tables[A].chunks_total if A in capture.status.tables else 0


def test_a_snapshot_open_too_long_is_ended_and_its_table_read_in_smaller_chunks(database: str, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    slow = {"readers": 1, "chunk_rows": 2500, "max_rows_per_second": 1500}
    with _run(database, tmp_path, log, HarmLimits(snapshot_end=1), ("public.a",), **slow) as capture:
        wait_until(lambda: _chunks(capture) == 2, 30, "the load is planned in two chunks")
        wait_until(lambda: _chunks(capture) == 8, 30, "it starts again with smaller ones")
        wait_until(lambda: _state(capture, A) == "streaming", 60, "it is loaded")
    assert len(rebuild(log)["t.public.a"]) == 5000
    log.close()


def test_a_snapshot_that_waits_in_the_server_is_ended_too(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, original = EmbeddedLog(tmp_path / "log.db", "t"), PgReader.read
    readers: list[int] = []
    with closing(psycopg.connect(database)) as lock, closing(psycopg.connect(database, autocommit=True)) as watch:

        def read(self: PgReader, *words: Any) -> Iterator[ChunkRows]:
            readers.append(self._connection.info.backend_pid)
            if len(readers) == 1:
                lock.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
            yield from original(self, *words)

        def waits() -> bool:
            query = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s"
            return bool(readers) and watch.execute(query, (readers[0],)).fetchone() is not None

        monkeypatch.setattr(PgReader, "read", read)
        limits = HarmLimits(snapshot_end=1)
        with _run(database, tmp_path, log, limits, ("public.a",), readers=1, chunk_rows=2500) as capture:
            wait_until(waits, 30, "the reader waits for the lock")
            wait_until(lambda: not waits(), 30, "its statement is ended")
            lock.rollback()
            wait_until(lambda: _state(capture, A) == "streaming", 60, "the table is loaded")
        assert len(set(readers)) == 2  # one session was given up
    assert len(rebuild(log)["t.public.a"]) == 5000
    log.close()


def test_a_table_without_smaller_chunks_stops_by_name_when_its_snapshot_lasts_too_long(
    database: str, tmp_path: Path
) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    limits = HarmLimits(snapshot_warn=0, snapshot_end=1)
    with _run(database, tmp_path, log, limits, ("public.free",), max_rows_per_second=20) as capture:
        wait_until(lambda: "SNAPSHOT_TOO_LONG" in _warnings(capture), 30, "a warning comes first")
        wait_until(lambda: _state(capture, FREE) == "stopped", 60, "the keyless table stops")
        assert capture.status.tables[FREE].error["code"] == "SNAPSHOT_TOO_LONG"
        assert "load.max_snapshot_seconds.end" in capture.status.tables[FREE].error["remedy"]
    log.close()


def test_the_one_snapshot_of_a_full_load_ends_the_load_when_it_lasts_too_long(database: str, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    settings = {"mode": "full-load", "until_current": True, "max_rows_per_second": 20}
    with (
        pytest.raises(StopError) as stopped,
        _run(database, tmp_path, log, HarmLimits(snapshot_end=1), ("public.free",), **settings) as capture,
    ):
        capture.thread.join(60)
    assert stopped.value.code == "SNAPSHOT_TOO_LONG"
    log.close()


def _warnings(capture: RunningCapture) -> list[str]:
    capture.check()
    return [warning["code"] for warning in capture.status.harm.get("warnings", ())]


def _aborted(reader: SnapshotReader, feed: TableFeed, is_blocked: Callable[[], bool]) -> None:
    """A read that waits for a lock in the server ends by an error that counts as passing."""
    errors: list[BaseException] = []

    def read() -> None:
        try:
            list(reader.read(feed, None, None, "0:1"))
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(is_blocked, 30, "the reader waits for the lock")
    reader.abort()
    thread.join(30)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [SourceUnavailableError]
    reader.close()


def test_a_read_that_waits_in_postgres_is_ended(database: str, tmp_path: Path) -> None:
    source = postgres_source(database, tmp_path / "spool", ("public.a",))
    feed = table_feed(source.tables()[0])
    reader = source.reader()
    reader.begin([feed])
    with closing(psycopg.connect(database)) as lock, closing(psycopg.connect(database, autocommit=True)) as watch:
        lock.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'a'::regclass"
        _aborted(reader, feed, lambda: watch.execute(waits).fetchone() is not None)
    source.close()


def test_a_read_that_waits_in_mariadb_is_ended(mysql_database: Callable[[str], str]) -> None:
    url = mysql_database("MARIADB118")
    lock, watch = Sql(url), Sql(url)
    lock.run("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    source = mysql_source(url)
    feed = table_feed(source.tables()[0])
    reader = source.reader()
    reader.begin([feed])
    lock.run("LOCK TABLES a WRITE")
    waits = "SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting%%' AND INFO LIKE %s"
    found = (waits, (f"%FROM `{lock.database}`.`a`%",))
    _aborted(reader, feed, lambda: bool(run(watch.connection, *found)))
    lock.run("UNLOCK TABLES")
    for session in (lock, watch, source):
        session.close()


@pytest.mark.parametrize("name", ["MYSQL80", "MARIADB118"])
def test_headroom_of_the_binary_log_is_what_the_server_lists(name: str, mysql_database: Callable[[str], str]) -> None:
    sql = Sql(mysql_database(name))
    sql.run("CREATE TABLE t (id int PRIMARY KEY)")
    at = sql.place()
    sql.run("FLUSH BINARY LOGS", "INSERT INTO t VALUES (1)", "FLUSH BINARY LOGS")
    logs = [(str(row[0]), int(row[1])) for row in sql.run("SHOW BINARY LOGS")]
    (expire,) = sql.run("SELECT @@GLOBAL.binlog_expire_logs_seconds")[0]
    mine = [file for file, _ in logs].index(at.file)
    hour_ago = int((time.time() - 3600) * 1000)
    with closing(sql.connection):
        found = binlog_harm(sql.connection, at, hour_ago)
        assert found.binlog_oldest == logs[0][0]
        assert found.binlog_spare_bytes == sum(size for _, size in logs[:mine])
        behind = sum(size for _, size in logs[mine:]) - at.pos
        assert found.binlog_behind_bytes is not None and found.binlog_behind_bytes >= behind
        assert found.binlog_expire_seconds == int(expire)
        assert found.binlog_left_seconds == (None if not int(expire) else pytest.approx(int(expire) - 3600, abs=60))
        assert binlog_harm(sql.connection, at, 0).binlog_left_seconds is None
        end = FilePlace(logs[-1][0], 4)
        assert binlog_harm(sql.connection, end, hour_ago).binlog_left_seconds == (int(expire) or None)


def test_a_binary_log_about_to_go_stops_the_capture_and_the_hint_keeps_it(
    mysql_database: Callable[[str], str], tmp_path: Path
) -> None:
    """The expiry is the server's own; the limit lies above it."""
    sql = Sql(mysql_database("MYSQL80"))
    sql.run("CREATE TABLE t (id int PRIMARY KEY)")
    (expire,) = sql.run("SELECT @@GLOBAL.binlog_expire_logs_seconds")[0]
    log = EmbeddedLog(tmp_path / "log.db", "t")
    limits = HarmLimits(min_binlog_left=Steps(stop=int(expire) + 1))
    with (
        pytest.raises(StopError) as stopped,
        running_capture(mysql_source(f"{sql.url}"), log, harm=limits) as capture,
    ):
        capture.thread.join(60)
    assert stopped.value.code == "BINLOG_LEFT"
    assert f"SET GLOBAL binlog_expire_logs_seconds = {2 * int(expire)}" in stopped.value.hint
    sql.close()
    log.close()
