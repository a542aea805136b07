"""Reading on where the log stands, while the slot stands before it: what a kill between commit record and feedback
leaves behind."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import CrashError, DyingLog, LogReading, postgres_source, rebuild, running_capture
from fix_servers import private_server, wait_until
from fix_versions import EVERY_POSTGRES

import tailrace_capture.feed
import tailrace_capture.postgres.stream
from tailrace_capture.postgres.replication import ReplicationStream
from tailrace_log.embedded import EmbeddedLog, EmbeddedWriter
from tailrace_log.log import Batch, CommitRecord
from tailrace_schemas.position import parse_lsn, parse_position

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("version", EVERY_POSTGRES)
def test_position_never_goes_back_when_the_slot_stands_behind_the_log(
    version: str, postgres_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_database(version)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    monkeypatch.setattr(ReplicationStream, "feedback", lambda stream, lsn: None)  # the slot learns nothing
    monkeypatch.setattr(tailrace_capture.feed, "IDLE_SECONDS", 0.0)  # as on a machine where starting took longer
    with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture, psycopg.connect(url) as connection:
        wait_until(lambda: capture.status.seq >= 0, 30, "capture runs")
        for n in range(20):
            connection.execute("INSERT INTO a VALUES (%s)", (n,))
            connection.commit()
        wait_until(lambda: capture.status.transactions >= 20, 30, "the transactions are in the log")
    before = len(LogReading(log).records())
    with running_capture(postgres_source(url, tmp_path / "spool"), log):
        # The server says at once how far it has read, which is not as far as the log.
        wait_until(lambda: len(LogReading(log).records()) > before, 30, "a further commit record")
    positions = [parse_position(record.position) for record in LogReading(log).records()]
    assert all(later.contains(earlier) for earlier, later in pairwise(positions))


class HeldLog(EmbeddedLog):
    """A log that writes only while `free` is set. `end`: LSN of the last commit record in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "t")
        self.free = threading.Event()
        self.free.set()
        self.end = 0

    def writer(self, pipeline: str, sinks: list[str]) -> EmbeddedWriter:
        out = super().writer(pipeline, sinks)
        write = out.write

        def waiting(batches: list[Batch], record: CommitRecord) -> CommitRecord:
            assert self.free.wait(60)
            done = write(batches, record)
            self.end = parse_lsn(done.position.removeprefix("lsn:"))
            return done

        out.write = waiting  # type: ignore[method-assign]
        return out


@pytest.mark.parametrize("version", ["POSTGRES18"])
def test_only_what_is_in_the_log_is_acknowledged(
    version: str, postgres_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_database(version)
    log = HeldLog(tmp_path / "log.db")
    told: list[tuple[int, int]] = []  # what is acknowledged, and what the log holds then
    feedback = ReplicationStream.feedback

    def noting(stream: ReplicationStream, lsn: int) -> None:
        told.append((lsn, log.end))
        feedback(stream, lsn)

    monkeypatch.setattr(ReplicationStream, "feedback", noting)
    monkeypatch.setattr(tailrace_capture.postgres.stream, "FEEDBACK_SECONDS", 0.0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY)")
        with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture:
            wait_until(lambda: {t.state for t in capture.status.tables.values()} == {"streaming"}, 30, "it is loaded")
            log.free.clear()
            passed, told[:] = capture.status.transactions, []
            for n in range(5):
                connection.execute("INSERT INTO a VALUES (%s)", (n,))
            wait_until(lambda: capture.status.transactions >= passed + 5, 30, "the stream has passed them")
            before = len(told)
            wait_until(lambda: len(told) > before + 3, 30, "the source is told how far we are")
            log.free.set()
            wait_until(lambda: told[-1][0] > told[0][0], 30, "and at last of the transactions")
    assert all(acknowledged <= held for acknowledged, held in told)


@pytest.mark.parametrize("version", EVERY_POSTGRES)
@pytest.mark.parametrize(
    ("statement", "value", "marker"),
    [("TRUNCATE a", "'kept'", "truncate"), ("ALTER TABLE a ADD COLUMN w int DEFAULT 7", "'wide', g", "schema")],
)
@pytest.mark.case("C7", "C8", "D18", verdict="=")
def test_what_stands_inside_a_big_transaction_beside_its_rows_happens_once(
    version: str,
    statement: str,
    value: str,
    marker: str,
    postgres_database: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Capture dies again and again while it publishes the parts of one transaction."""
    monkeypatch.setattr(tailrace_capture.feed, "OPEN_BYTES", 20_000)
    url = postgres_database(version)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, v text)")
        connection.execute("INSERT INTO a SELECT g, 'loaded' FROM generate_series(1, 100) g")
    log = DyingLog(tmp_path / "log.db", iter([(1 << 60, False)]))
    run_to_the_end(url, log, tmp_path)
    with psycopg.connect(url) as connection:
        insert = "INSERT INTO a SELECT g, {} FROM generate_series({}, {}) g"
        connection.execute(insert.format("'before'", 101, 4000))
        connection.execute(statement)
        connection.execute(insert.format(value, 4001, 8000))
        connection.execute("UPDATE a SET v = 'last' WHERE id % 10 = 0")
        wanted = connection.execute("SELECT * FROM a ORDER BY id").fetchall()
    log = DyingLog(tmp_path / "log.db", iter([(1 + n % 2, n % 3 != 0) for n in range(300)]))
    deaths = 0
    while not run_to_the_end(url, log, tmp_path):
        deaths += 1
    assert deaths > 8
    (rows,) = rebuild(log).values()
    assert sorted(tuple(row.values()) for row in rows.values()) == wanted
    assert [m.kind for record in LogReading(log).records() for m in record.markers] == ["schema", marker]


def run_to_the_end(url: str, log: DyingLog, folder: Path) -> bool:
    """False when it died before it was current."""
    try:
        with running_capture(postgres_source(url, folder / "spool"), log, until_current=True) as capture:
            wait_until(lambda: not capture.thread.is_alive(), 120, "the end or a crash")
    except CrashError:
        return False
    return True


@pytest.mark.parametrize("version", EVERY_POSTGRES)
def test_a_killed_server_is_read_on_where_it_stood(version: str, tmp_path: Path) -> None:
    """By the same capture, as soon as it answers again."""
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with private_server(version) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE a (id int PRIMARY KEY, v int)")
            connection.execute("INSERT INTO a SELECT g, 0 FROM generate_series(1, 100) g")
        with running_capture(postgres_source(server.url, tmp_path / "spool"), log) as capture:
            wait_until(lambda: {t.state for t in capture.status.tables.values()} == {"streaming"}, 30, "it is loaded")
            with psycopg.connect(server.url, autocommit=True) as connection:
                for n in range(50):
                    connection.execute("UPDATE a SET v = v + 1 WHERE id <= %s", (n,))
            server.kill()
            wait_until(lambda: "waiting to start again" in capture.status.sentence, 30, "capture has noticed")
            server.start()
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("INSERT INTO a VALUES (1000, 7)")
                wanted = connection.execute("SELECT * FROM a ORDER BY id").fetchall()
            wait_until(lambda: len(next(iter(rebuild(log).values()))) == 101, 30, "it goes on")
    (rows,) = rebuild(log).values()
    assert sorted(tuple(row.values()) for row in rows.values()) == wanted
