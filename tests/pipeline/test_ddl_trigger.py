"""An event trigger tells of DDL in order: what two looks at the catalogue would leave in doubt is followed step by step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import specs.play
from fix_capture import LogReading, postgres_source, rebuild, running_capture
from fix_servers import wait_until
from specs.spec import read_specs

import tailrace_capture.postgres.stream
from tailrace_capture.postgres import ddl_trigger
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import StopError

pytestmark = pytest.mark.servers
VERSIONS = pytest.mark.parametrize("version", [pytest.param("POSTGRES14", marks=pytest.mark.slow), "POSTGRES18"])
SPECS = [spec for spec in read_specs(Path(specs.play.__file__).parent) if spec.name.startswith("d")]
traced = partial(postgres_source, ddl_trigger="on")


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def finish(url: str, log: EmbeddedLog, spool: Path) -> None:
    with running_capture(traced(url, spool), log, until_current=True) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


def rows(log: EmbeddedLog) -> list[tuple[Any, ...]]:
    (found,) = rebuild(log).values()
    return sorted(tuple(row.values()) for row in found.values())


@VERSIONS
@pytest.mark.case("D1", "D2", "D3", "D4", verdict="=")
def test_many_changes_that_nobody_looked_at_in_between_load_nothing_again(
    version: str, postgres_database: Any, tmp_path: Path
) -> None:
    url = postgres_database(version)
    log = EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1), (2, 2)")
    finish(url, log, tmp_path / "spool")
    run(
        url,
        "ALTER TABLE a ADD c int",
        "INSERT INTO a VALUES (3, 3, 3)",
        "ALTER TABLE a DROP c",
        "ALTER TABLE a ADD c text DEFAULT 'x'",
        "ALTER TABLE a RENAME v TO w",
        "BEGIN; ALTER TABLE a ADD gone int; INSERT INTO a VALUES (4, 4, 'four', 4); ALTER TABLE a DROP gone; COMMIT",
        "ALTER TABLE a ADD e int DEFAULT 7",
        "ALTER TABLE a DROP e",
        "ALTER TABLE a ADD e int DEFAULT 8",
    )
    finish(url, log, tmp_path / "spool")
    assert rows(log) == run(url, "SELECT id, w, c, e FROM a ORDER BY id")
    assert "reload" not in [value.get("marker") for _, _, value in LogReading(log).events() if value]


@VERSIONS
@pytest.mark.case("D1", "D16", verdict="=")
def test_changes_in_savepoints_whose_messages_may_come_late(
    version: str, postgres_database: Any, tmp_path: Path
) -> None:
    url = postgres_database(version)
    log = EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1), (2, 2)")
    finish(url, log, tmp_path / "spool")
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO a VALUES (3, 3)")
        for n, change in enumerate(("ADD x int", "ADD y int DEFAULT 5", "DROP x", "RENAME y TO z")):
            connection.execute(f"SAVEPOINT s; ALTER TABLE a {change}; RELEASE s".encode())
            connection.execute(f"INSERT INTO a (id) VALUES ({n + 10})".encode())
            connection.execute("SAVEPOINT s; ALTER TABLE a ADD gone int; INSERT INTO a (id) VALUES (99); ROLLBACK TO s")
    finish(url, log, tmp_path / "spool")
    assert rows(log) == run(url, "SELECT id, v, z FROM a ORDER BY id")


@VERSIONS
@pytest.mark.case("D5", verdict="=")
def test_a_change_that_writes_rows_anew_starts_the_table_again_at_its_place(
    version: str, postgres_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No look at the catalogue while capture runs, and no row event afterwards."""
    monkeypatch.setattr(tailrace_capture.postgres.stream, "LOOK_SECONDS", 3600.0)
    url = postgres_database(version)
    log = EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1), (2, 2)")
    with running_capture(traced(url, tmp_path / "spool"), log) as capture:
        wait_until(lambda: [t.state for t in capture.status.tables.values()] == ["streaming"], 30, "it is loaded")
        run(url, "ALTER TABLE a ALTER v TYPE bigint USING v * 1000")
        wait_until(lambda: rows(log) == [(1, 1000), (2, 2000)], 30, "the rows are read again")


@VERSIONS
@pytest.mark.case("D17", verdict="=")
def test_a_new_table_is_noticed_at_once(
    version: str, postgres_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailrace_capture.postgres.stream, "LOOK_SECONDS", 3600.0)
    url = postgres_database(version)
    log = EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY)")
    with running_capture(traced(url, tmp_path / "spool"), log) as capture:
        wait_until(lambda: bool(capture.status.tables), 30, "capture runs")
        run(url, "CREATE TABLE b (id int PRIMARY KEY)", "INSERT INTO b VALUES (1)")
        wait_until(lambda: len(rebuild(log).get("t.public.b", {})) == 1, 30, "it is loaded")


@VERSIONS
@pytest.mark.case("D8", "D9", "D10", "D16", "D19", verdict="=")
def test_the_cases_of_ddl_with_the_trigger(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs.play, "postgres_source", traced)
    wanted = [spec for spec in SPECS if version in spec.versions]
    with specs.play.played(version, wanted, tmp_path) as play:
        wrong = [line for spec in wanted for line in play.faults(spec)]
    assert not wrong, "\n".join(wrong)


@VERSIONS
def test_a_trigger_that_fails_fails_no_statement_and_drop_removes_it(
    version: str, postgres_database: Any, tmp_path: Path
) -> None:
    url = postgres_database(version)
    log = EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    finish(url, log, tmp_path / "spool")
    ((function, body),) = run(url, "SELECT oid::regprocedure::text, prosrc FROM pg_proc WHERE proname LIKE '%_ddl'")
    wrong = body.replace("FROM pg_event_trigger_ddl_commands()", "FROM no_such_function()")
    run(url, f"CREATE OR REPLACE FUNCTION {function} RETURNS event_trigger LANGUAGE plpgsql AS $t${wrong}$t$")
    run(url, "ALTER TABLE a ADD c int DEFAULT 5")
    with running_capture(postgres_source(url, tmp_path / "spool"), log, until_current=True) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")
    assert rows(log) == [(1, 5)]
    source = traced(url, tmp_path / "spool")
    removed = source.drop()
    source.close()
    assert len([line for line in removed if "event trigger" in line or "function" in line]) == 3
    assert run(url, "SELECT evtname FROM pg_event_trigger") == []
    run(url, "CREATE TABLE b (id int)")


@VERSIONS
def test_a_role_that_may_not_make_it_is_told_how_and_captures_without_it(
    version: str, postgres_database: Any, tmp_path: Path
) -> None:
    url = postgres_database(version)
    role = "r_" + url.rpartition("/")[2].partition("?")[0]
    run(url, f"CREATE ROLE {role} LOGIN REPLICATION")
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"SET ROLE {role}".encode())
            with pytest.raises(StopError) as caught:
                ddl_trigger.ensure(connection, "tailrace_x", "on")
            assert (caught.value.code, "psql" in caught.value.hint) == ("PRIVILEGE", True)
            assert ddl_trigger.ensure(connection, "tailrace_x", "auto") is False
            connection.execute("RESET ROLE")
            for statement in ddl_trigger.statements("tailrace_x"):
                connection.execute(statement.encode())
            connection.execute(f"SET ROLE {role}".encode())
            assert ddl_trigger.ensure(connection, "tailrace_x", "on") is True
            left = ddl_trigger.drop(connection, "tailrace_x")
            assert 'as superuser: DROP EVENT TRIGGER "tailrace_x_ddl"' in left[0]
            connection.execute("RESET ROLE")
            assert len(ddl_trigger.drop(connection, "tailrace_x")) == 3
    finally:
        run(url, f"DROP ROLE {role}")
