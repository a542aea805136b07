"""A MySQL or MariaDB source failed over to a replica: it goes on where nothing is missing and nothing slipped in, and is
refused by name where that is not so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_address import address_of
from fix_capture import CrashError, DyingLog, LogReading, rebuild, running_capture
from fix_mysql import mysql_source
from fix_replicas import follow, mysql_replica, promote_mysql, replica_has, run_on, stop_following
from fix_servers import MARIADB_NAMES, PrivateServer, private_server, wait_until

import tailrace_capture.feed
import tailrace_capture.mysql.stream
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import Finding, SourceUnavailableError, StopError

pytestmark = pytest.mark.servers
FAMILY = pytest.mark.parametrize(
    "name",
    ["MYSQL80", "MARIADB118", *(pytest.param(name, marks=pytest.mark.slow) for name in ("MYSQL9", "MARIADB1011"))],
)
MYSQL = pytest.mark.parametrize("name", ["MYSQL80", pytest.param("MYSQL9", marks=pytest.mark.slow)])


@pytest.fixture
def log(tmp_path: Path) -> EmbeddedLog:
    return EmbeddedLog(tmp_path / "log.db", "t")


def drain(server: PrivateServer, log: EmbeddedLog, act: Callable[[], None] = lambda: None, **settings: Any) -> None:
    """Capture until it is current; `act` when the load is done. One server_id, as one pipeline has."""
    source = mysql_source(server.url + "d", server_id=77)
    with running_capture(source, log, until_current=True, **settings) as capture:
        act()
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


def refusal(server: PrivateServer, log: EmbeddedLog) -> StopError:
    with pytest.raises(StopError) as caught:
        drain(server, log)
    assert caught.value.hint
    return caught.value


def held(log: EmbeddedLog, table: str = "a") -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in rebuild(log)[f"t.d.{table}"].values())


def rows(server: PrivateServer, table: str = "a") -> list[tuple[Any, ...]]:
    return sorted(run_on(server, f"SELECT * FROM d.{table}"))


def filled(server: PrivateServer, table: str = "a") -> None:
    values = ", ".join(f"({n}, 0)" for n in range(1, 10))
    run_on(
        server,
        "CREATE DATABASE IF NOT EXISTS d",
        f"CREATE TABLE d.{table} (id int PRIMARY KEY, v int)",
        f"INSERT INTO d.{table} VALUES {values}",
    )


@FAMILY
@pytest.mark.case("H1", verdict="=")
def test_a_promoted_replica_is_read_on_and_so_is_the_old_source_when_it_comes_back(name: str, log: EmbeddedLog) -> None:
    with private_server(name) as first, mysql_replica(first) as second:
        filled(first)
        drain(first, log)
        run_on(first, "UPDATE d.a SET v = 1 WHERE id = 1", "FLUSH BINARY LOGS", "DELETE FROM d.a WHERE id = 2")
        drain(first, log)
        run_on(first, "INSERT INTO d.a VALUES (20, 1)")
        replica_has(second, first)
        first.kill()
        promote_mysql(second)
        run_on(second, "UPDATE d.a SET v = v + 1 WHERE id < 5", "INSERT INTO d.a VALUES (21, 2)")
        drain(second, log)
        assert held(log) == rows(second)
        run_on(second, "DELETE FROM d.a WHERE id = 21")
        drain(second, log)
        assert held(log) == rows(second)

        first.start()
        follow(first, second)
        replica_has(first, second)
        promote_mysql(first)
        run_on(first, "INSERT INTO d.a VALUES (22, 3)")
        drain(first, log)
        assert held(log) == rows(first) == [*rows(second), (22, 3)]
        servers = [tuple(record.identity.values()) for record in LogReading(log).records()]
        assert len(set(servers)) == 2
        assert servers[0] == servers[-1]


@FAMILY
@pytest.mark.case("H2", verdict="STOP(SOURCE_BEHIND)")
def test_a_replica_that_lacks_what_was_sent_is_refused_however_much_it_wrote_since(name: str, log: EmbeddedLog) -> None:
    with private_server(name) as first, mysql_replica(first) as second:
        filled(first)
        replica_has(second, first)
        stop_following(second)
        before = gtids(first)
        run_on(first, "INSERT INTO d.a VALUES (20, 1)", "INSERT INTO d.a VALUES (21, 1)")
        lost = added(first, before)
        drain(first, log)
        first.kill()
        promote_mysql(second)
        for number in range(30, 40):
            run_on(second, f"INSERT INTO d.a VALUES ({number}, 1)")
        error = refusal(second, log)
        assert error.code == "SOURCE_BEHIND"
        assert f"missing: {lost};" in error.detail
        # On the server that has them it goes on.
        first.start()
        drain(first, log)
        assert held(log) == rows(first)


def gtids(server: PrivateServer) -> str:
    ((found,),) = run_on(server, f"SELECT @@GLOBAL.{'gtid_binlog_pos' if is_maria(server) else 'gtid_executed'}")
    return str(found)


def added(server: PrivateServer, before: str) -> str:
    """What it has committed since, in the server's own words; of MariaDB two transactions in one domain."""
    now = gtids(server)
    if is_maria(server):
        head, _, number = now.rpartition("-")
        return f"{head}-{int(number) - 1} to {now}"
    return str(run_on(server, f"SELECT GTID_SUBTRACT('{now}', '{before}')")[0][0])


def is_maria(server: PrivateServer) -> bool:
    return server.name in MARIADB_NAMES


@FAMILY
@pytest.mark.case("H2", verdict="STOP(SOURCE_BEHIND)")
def test_what_a_replica_wrote_of_its_own_in_between_is_named(name: str, log: EmbeddedLog) -> None:
    """Read after the log's last transaction, it would undo what came after it at the replica."""
    with private_server(name) as first, mysql_replica(first) as second:
        filled(first)
        replica_has(second, first)
        before = gtids(second)
        own = ["SET SESSION gtid_domain_id = 5"] if is_maria(second) else []
        run_on(second, *own, "UPDATE d.a SET v = 99 WHERE id = 1")
        errant = gtids(second).split(",")[-1] if is_maria(second) else added(second, before)
        run_on(first, "UPDATE d.a SET v = 1 WHERE id = 1")
        drain(first, log)
        replica_has(second, first)
        first.kill()
        promote_mysql(second)
        assert rows(second)[0] == held(log)[0] == (1, 1)
        error = refusal(second, log)
        assert error.code == "SOURCE_BEHIND"
        assert f"errant: {errant};" in error.detail
        assert held(log)[0] == (1, 1)


@pytest.mark.parametrize("name", MARIADB_NAMES)
@pytest.mark.case("H2", verdict="STOP(GTID_STRICT)")
def test_a_replica_whose_numbers_need_not_ascend_proves_nothing(name: str, log: EmbeddedLog) -> None:
    with private_server(name) as first, mysql_replica(first, config="gtid_strict_mode=OFF") as second:
        filled(first)
        replica_has(second, first)
        run_on(second, "INSERT INTO d.a VALUES (50, 99)")
        run_on(first, "INSERT INTO d.a VALUES (51, 1)")
        drain(first, log)
        replica_has(second, first)
        promote_mysql(second)
        assert refusal(second, log).code == "GTID_STRICT"


@FAMILY
@pytest.mark.case("C8", "H1", verdict="=")
def test_a_transaction_half_published_before_the_fail_over_is_published_whole_after_it(
    name: str, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailrace_capture.feed, "OPEN_BYTES", 20_000)
    monkeypatch.setattr(tailrace_capture.mysql.stream, "HOLD_BYTES", 10_000)
    with private_server(name) as first, mysql_replica(first) as second:
        filled(first)
        drain(first, log)
        run_on(first, "INSERT INTO d.a SELECT s.seq + 100, 7 FROM (" + sequence(3000) + ") s")
        replica_has(second, first)
        half(first, log)
        first.kill()
        promote_mysql(second)
        run_on(second, "UPDATE d.a SET v = 8 WHERE id > 3000")
        drain(second, log)
        assert held(log) == rows(second)
        assert [record.kind for record in LogReading(log).records()].count("abandon") == 1


def sequence(rows_: int) -> str:
    """A SELECT of `seq` from 0 on."""
    digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4)"
    digits = digits.replace(")", " UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)")
    number = "a.d + 10 * b.d + 100 * c.d + 1000 * e.d"
    tables = ", ".join(f"{digits} {letter}" for letter in "abce")
    return f"SELECT {number} seq FROM {tables} WHERE {number} < {rows_}"


def half(server: PrivateServer, log: EmbeddedLog) -> None:
    """Capture until a transaction is open in the log, and die there."""
    while LogReading(log).records()[-1].open is None:
        with pytest.raises(CrashError):
            drain(server, DyingLog(log.path, iter([(1, True)])))


@FAMILY
@pytest.mark.case("G6", verdict="STOP(SOURCE_BEHIND)")
def test_a_history_that_began_anew_is_refused_when_it_has_overtaken_the_log(name: str, log: EmbeddedLog) -> None:
    """By GTIDs alone nothing would be missing: the same names stand for other transactions."""
    words = "RESET BINARY LOGS AND GTIDS" if name == "MYSQL9" else "RESET MASTER"
    with private_server(name) as server:
        filled(server)
        drain(server, log)
        run_on(server, "UPDATE d.a SET v = 1 WHERE id = 1")
        drain(server, log)
        run_on(server, words, *(f"INSERT INTO d.a VALUES ({number}, 1)" for number in range(20, 40)))
        error = refusal(server, log)
        assert error.code == "SOURCE_BEHIND"
        assert "binlog.000001" in error.detail


@pytest.mark.parametrize("name", ["MYSQL80", "MARIADB118"])
@pytest.mark.case("E5", verdict="=")
@pytest.mark.case("E5", verdict="STOP(REPLICA_UPDATES)")
def test_a_replica_that_lags_is_a_source_of_its_own_and_one_that_keeps_no_log_of_it_is_refused(
    name: str, log: EmbeddedLog
) -> None:
    maria = name in MARIADB_NAMES
    applier = "SLAVE SQL_THREAD" if maria else "REPLICA SQL_THREAD"
    with private_server(name) as first, mysql_replica(first) as second:
        filled(first)
        replica_has(second, first)
        run_on(second, f"STOP {applier}")
        run_on(first, "UPDATE d.a SET v = 1 WHERE id < 4", "DELETE FROM d.a WHERE id = 9")
        with running_capture(mysql_source(second.url + "d", server_id=77), log, chunk_rows=2) as capture:
            wait_until(lambda: bool(capture.status.tables), 60, "the load begins")
            run_on(second, f"START {applier}")
            wait_until(lambda: [t.state for t in capture.status.tables.values()] == ["streaming"], 60, "it is loaded")
            run_on(first, "INSERT INTO d.a VALUES (20, 1)")
        replica_has(second, first)
        drain(second, log)
        assert held(log) == rows(first)

        second.stop()
        second.start(config="log-slave-updates=OFF" if maria else "log-replica-updates=OFF")
        assert "REPLICA_UPDATES" in {f.code for f in preflight(second) if f.level == "error"}
        assert refusal(second, log).code == "REPLICA_UPDATES"
        assert refusal(second, EmbeddedLog(log.path.parent / "new.db", "t")).code == "REPLICA_UPDATES"


def preflight(server: PrivateServer) -> list[Finding]:
    source = mysql_source(server.url + "d", server_id=77)
    try:
        return source.preflight(load=True, stream=True)
    finally:
        source.close()


@MYSQL
@pytest.mark.case("H7", verdict="=")
@pytest.mark.case("H7", verdict="STOP(WRONG_SOURCE)")
def test_where_not_every_transaction_has_a_gtid_the_place_counts_and_only_on_its_own_server(
    name: str, log: EmbeddedLog
) -> None:
    with private_server(name, config="gtid-mode=ON_PERMISSIVE") as server:
        filled(server)
        drain(server, log)
        run_on(server, "UPDATE d.a SET v = 1 WHERE id = 1")
        drain(server, log)
        assert held(log) == rows(server)
        assert LogReading(log).records()[-1].position.startswith("file:")
        server.stop()
        (server.data / "data" / "auto.cnf").unlink()  # the server's uuid
        server.start()
        run_on(server, "INSERT INTO d.a VALUES (20, 1)")
        assert refusal(server, log).code == "WRONG_SOURCE"


@pytest.mark.parametrize("name", ["MYSQL80", "MARIADB118"])
@pytest.mark.case("H1", "E5", verdict="=")
def test_a_load_goes_on_at_the_server_to_which_its_address_leads(name: str, log: EmbeddedLog) -> None:
    with private_server(name) as first, mysql_replica(first) as second, address_of(first) as address:
        filled(first)
        run_on(first, "INSERT INTO d.a SELECT s.seq + 100, 7 FROM (" + sequence(600) + ") s")
        replica_has(second, first)
        source = mysql_source(address.url + "d", server_id=77)
        source.identity()
        address.lead_to(second)
        with pytest.raises(SourceUnavailableError, match="another server answers"):
            source.reader()
        address.lead_to(first)
        source.close()
        with running_capture(source, log, chunk_rows=50, max_rows_per_second=200) as capture:
            wait_until(lambda: any(t.chunks_done for t in capture.status.tables.values()), 60, "the load runs")
            run_on(first, "UPDATE d.a SET v = v + 1 WHERE id % 3 = 0", "DELETE FROM d.a WHERE id % 10 = 0")
            replica_has(second, first)
            first.kill()
            promote_mysql(second)
            address.lead_to(second)
            run_on(second, "UPDATE d.a SET v = v + 1 WHERE id % 4 = 0", "INSERT INTO d.a VALUES (5000, 1)")
            moved = {"server_uuid" if name == "MYSQL80" else "server_id": gtid_server(second)}
            wait_until(
                lambda: moved.items() <= LogReading(log).records()[-1].identity.items(), 90, "it goes on at the other"
            )
            assert any(t.state == "loading" for t in capture.status.tables.values()), "the load was too quick"
            wait_until(lambda: [t.state for t in capture.status.tables.values()] == ["streaming"], 90, "it is loaded")
        drain(second, log)
        assert held(log) == rows(second)


def gtid_server(server: PrivateServer) -> str:
    return str(run_on(server, f"SELECT @@GLOBAL.{'server_id' if is_maria(server) else 'server_uuid'}")[0][0])
