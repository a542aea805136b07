"""A Postgres source and its standby: what `check` says beforehand, what goes on after a promotion, what is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_address import address_of
from fix_capture import CrashError, DyingLog, LogReading, RunningCapture, postgres_source, rebuild, running_capture
from fix_replicas import STANDBY_SLOT, demote, postgres_standby, promote_postgres, standby_has
from fix_servers import PrivateServer, private_server, wait_until

import tailrace_capture.feed
from tailrace_capture.service import TableStatus
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import SourceUnavailableError, TailraceError

pytestmark = pytest.mark.servers
SLOT = "tailrace_postgres"
NEW = pytest.mark.parametrize("version", [pytest.param("POSTGRES17", marks=pytest.mark.slow), "POSTGRES18"])
SYNCHRONIZED = f"synchronized_standby_slots = '{STANDBY_SLOT}'"


@pytest.fixture
def log(tmp_path: Path) -> EmbeddedLog:
    return EmbeddedLog(tmp_path / "log.db", "t")


def run(server: PrivateServer, *statements: str) -> list[Any]:
    """The rows of the last statement."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def drain(server: PrivateServer, log: EmbeddedLog, **settings: Any) -> None:
    source = postgres_source(server.url, log.path.parent / "spool")
    with running_capture(source, log, until_current=True, **settings) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


def refusal(server: PrivateServer, log: EmbeddedLog) -> TailraceError:
    with pytest.raises(TailraceError) as caught:
        drain(server, log)
    assert caught.value.hint
    return caught.value


def equal(server: PrivateServer, log: EmbeddedLog) -> None:
    wanted = sorted(run(server, "SELECT * FROM a"))
    assert sorted(tuple(row.values()) for row in rebuild(log)["t.public.a"].values()) == wanted


def filled(server: PrivateServer) -> None:
    run(server, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a SELECT n, 0 FROM generate_series(1, 9) n")


def copied(primary: PrivateServer, standby: PrivateServer) -> None:
    """Wait until the standby's copy of the slot outlives its promotion. The slot must be read meanwhile."""

    def is_safe() -> bool:
        run(primary, "SELECT pg_log_standby_snapshot()")
        run(standby, "SELECT pg_reload_conf()")  # wakes the worker, which else sleeps up to 30 s
        query = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND synced AND NOT temporary"
        return bool(run(standby, query))

    wait_until(is_safe, 60, "the standby has a copy of the slot")


def tables(capture: RunningCapture) -> list[TableStatus]:
    capture.check()
    return list(capture.status.tables.values())


def stream_while(server: PrivateServer, log: EmbeddedLog, act: Callable[[], None]) -> None:
    with running_capture(postgres_source(server.url, log.path.parent / "spool"), log) as capture:
        wait_until(lambda: [t.state for t in tables(capture)] == ["streaming"], 60, "it streams")
        act()


def found(server: PrivateServer) -> dict[str, list[str]]:
    """What `check` says: code → messages with their remedies."""
    source = postgres_source(server.url, Path())
    codes: dict[str, list[str]] = {}
    for finding in source.preflight(load=True, stream=True):
        codes.setdefault(finding.code, []).append(f"{finding.message} | {finding.remedy}")
    source.close()
    return codes


@NEW
@pytest.mark.case("H3", verdict="=")
def test_a_promoted_standby_with_a_copy_of_the_slot_is_read_on(
    version: str, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a transaction was published when the primary went."""
    with private_server(version, config=SYNCHRONIZED) as first, postgres_standby(first) as second:
        filled(first)
        stream_while(first, log, lambda: copied(first, second))
        run(first, "UPDATE a SET v = 1 WHERE id < 4")
        drain(first, log)
        run(first, "INSERT INTO a SELECT n, 2 FROM generate_series(100, 3000) n")
        monkeypatch.setattr(tailrace_capture.feed, "OPEN_BYTES", 20_000)
        while LogReading(log).records()[-1].open is None:
            with pytest.raises(CrashError):
                drain(first, DyingLog(log.path, iter([(1, True)])))
        run(first, "INSERT INTO a VALUES (20, 1)")
        standby_has(second, first.url)
        first.kill()
        promote_postgres(second)
        run(second, "INSERT INTO a VALUES (21, 2)", "DELETE FROM a WHERE id = 5")
        drain(second, log)
        equal(second, log)
        records = LogReading(log).records()
        assert {record.identity["timeline"] for record in records} == {"1", "2"}
        assert [record.kind for record in records].count("abandon") == 1
        first.start()
        assert refusal(first, log).code == "SOURCE_BEHIND"  # the log has left its timeline


@NEW
@pytest.mark.case("H4", verdict="STOP(SLOT_NOT_SAFE)")
@pytest.mark.case("H6", verdict="STOP(SLOT_SYNC)")
def test_check_says_beforehand_what_a_fail_over_would_lose(version: str, log: EmbeddedLog) -> None:
    with private_server(version) as first:
        filled(first)
        drain(first, log)
        assert "SLOT_NOT_SAFE" not in found(first)  # no standby: nothing to fail over to
        run(first, "SELECT pg_create_physical_replication_slot('idle')")
        assert any("no standby holds a copy" in text for text in found(first)["SLOT_NOT_SAFE"])
        run(first, "SELECT pg_drop_replication_slot('idle')")
        with postgres_standby(first) as second:
            standby_has(second, first.url)
            wait_until(lambda: has_slot(second), 30, "the standby has begun to copy the slot")
            (empty,) = [text for text in found(first)["SLOT_NOT_SAFE"] if "synchronized_standby_slots" in text]
            run(first, *empty.partition(" | ")[2].split("; "))
            assert not any("synchronized_standby_slots" in text for text in found(first).get("SLOT_NOT_SAFE", []))
            at_standby = found(second)
            assert "STANDBY" in at_standby
            assert "not complete" in at_standby["SLOT_NOT_SAFE"][0]
            stream_while(first, log, lambda: copied(first, second))
            assert "SLOT_NOT_SAFE" not in found(second)
            assert "SLOT_NOT_SAFE" not in found(first)
            assert refusal(second, log).code == "STANDBY"

            first.stop()
            promote_postgres(second)
            run(second, "ALTER SYSTEM RESET synchronized_standby_slots", "SELECT pg_reload_conf()")
            drain(second, log)
            demote(first, second)
            first.start()
            standby_has(first, second.url)
            (own,) = found(first)["SLOT_SYNC"]
            run(first, own.partition(" | here: ")[2])
            assert "SLOT_SYNC" not in found(first)
            run(second, "INSERT INTO a VALUES (30, 1)")
            drain(second, log)
            equal(second, log)
            run(second, f"SELECT pg_drop_replication_slot('{SLOT}')")
            run(second, f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")
            assert any("is not a failover slot" in text for text in found(second)["SLOT_NOT_SAFE"])


def has_slot(server: PrivateServer) -> bool:
    return bool(run(server, f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{SLOT}'"))


@pytest.mark.parametrize("version", ["POSTGRES14", pytest.param("POSTGRES18", marks=pytest.mark.slow)])
@pytest.mark.case("E5", "E19", verdict="STOP(STANDBY)")
@pytest.mark.case("G6", verdict="STOP(SOURCE_BEHIND)")
def test_a_standby_is_refused_until_it_is_promoted_and_then_for_what_it_lacks(version: str, log: EmbeddedLog) -> None:
    with private_server(version) as first, postgres_standby(first) as second:
        filled(first)
        standby_has(second, first.url)
        assert refusal(second, log).code == "STANDBY"  # with an empty log
        assert "STANDBY" in found(second)
        assert "SLOT_NOT_SAFE" in found(first)
        # One snapshot without a stream is as good there as at the primary.
        once = EmbeddedLog(log.path.parent / "once.db", "t")
        with running_capture(postgres_source(second.url, log.path), once, mode="full-load") as capture:
            wait_until(lambda: not capture.thread.is_alive(), 60, "the load is done")
        equal(second, once)

        drain(first, log)
        second.stop()
        run(first, "INSERT INTO a VALUES (20, 1)")
        drain(first, log)
        first.kill()
        second.start()
        assert refusal(second, log).code == "STANDBY"
        promote_postgres(second)
        run(second, "INSERT INTO a SELECT n, 2 FROM generate_series(100, 3000) n")
        error = refusal(second, log)
        assert error.code == "SOURCE_BEHIND"
        assert "timeline 1 ended at" in error.detail
        first.start()
        drain(first, log)
        equal(first, log)


@pytest.mark.parametrize("version", ["POSTGRES18"])
@pytest.mark.case("G6", verdict="STOP(SOURCE_BEHIND)")
def test_a_restored_copy_of_the_files_is_refused(version: str, log: EmbeddedLog) -> None:
    """No new timeline says so: the server's log just ends too early."""
    with private_server(version) as server:
        filled(server)
        drain(server, log)
        server.stop()
        copy = f"{server.data}.copy"
        subprocess.run(["cp", "-a", str(server.data), copy], check=True)
        server.start()
        run(server, "INSERT INTO a SELECT n, 2 FROM generate_series(100, 3000) n")
        drain(server, log)
        server.stop()
        shutil.rmtree(server.data)
        Path(copy).rename(server.data)
        server.start()
        assert refusal(server, log).code == "SOURCE_BEHIND"


@pytest.mark.case("H3", "E19", verdict="=", on="POSTGRES18")
def test_a_running_capture_stays_with_its_server_and_follows_its_address_when_it_must(log: EmbeddedLog) -> None:
    with (
        private_server("POSTGRES18", config=SYNCHRONIZED) as first,
        postgres_standby(first) as second,
        address_of(first) as address,
    ):
        run(first, "CREATE TABLE a (id int PRIMARY KEY, v int)")
        run(first, "INSERT INTO a SELECT n, 0 FROM generate_series(1, 2000) n", "ANALYZE a")
        source = postgres_source(address.url, log.path.parent / "spool")
        source.identity()
        address.lead_to(second)
        with pytest.raises(SourceUnavailableError) as caught:
            source.reader()  # a chunk of a standby would leave out what runs at the primary
        assert "timeline is none, was 1" in caught.value.detail
        address.lead_to(first)
        source.close()
        with running_capture(source, log, chunk_rows=100, max_rows_per_second=600) as capture:
            wait_until(lambda: any(t.chunks_done for t in tables(capture)), 20, "the load runs")
            address.lead_to(second)
            address.cut()
            wait_until(lambda: "is a standby" in capture.status.sentence, 60, "it waits at the standby")
            run(first, "UPDATE a SET v = v + 1 WHERE id % 3 = 0")
            address.lead_to(first)
            wait_until(lambda: [t.state for t in tables(capture)] == ["streaming"], 90, "it is loaded")
            copied(first, second)
            run(first, "DELETE FROM a WHERE id < 100")
            standby_has(second, first.url)
            first.kill()
            promote_postgres(second)
            address.lead_to(second)
            run(second, "INSERT INTO a VALUES (5000, 1)")
            wait_until(lambda: LogReading(log).records()[-1].identity["timeline"] == "2", 90, "it goes on there")
        drain(second, log)
        equal(second, log)
