"""Targets that are away, refuse, or change under the sink: a named error or recovery, nothing lost."""

from dataclasses import replace

import psycopg
import pytest
from fix_servers import fresh_mysql_database, fresh_postgres_database, private_server, wait_until
from fix_sink import MySqlHarness, PostgresHarness, running, world_of
from fix_versions import EVERY_TARGET

from tailrace_schemas.errors import ConfigError, TargetUnavailableError
from tailrace_schemas.uri import parse_database_url
from tailrace_sinks import mysql, postgres
from tailrace_sinks.conformance import World, row
from tailrace_sinks.mysql_session import Session
from tailrace_sinks.sink import SinkConfig

pytestmark = pytest.mark.servers
CONFIG = SinkConfig("shop", "replica", "__tailrace-commit.x", "log")
BOTH = pytest.mark.parametrize("name", ["POSTGRES18", "MARIADB118"])
EVERYWHERE = pytest.mark.parametrize("name", EVERY_TARGET)


def test_a_wrong_password_is_a_configuration_error() -> None:
    with fresh_mysql_database("MARIADB118") as url:
        wrong = parse_database_url(url.replace(":pw@", ":secret@"))
        with pytest.raises(ConfigError) as caught:
            mysql.open_sink(wrong, CONFIG).open(take_over=True)
    assert caught.value.code == "PASSWORD"
    assert "secret" not in str(caught.value)


def test_a_role_that_does_not_exist_is_a_configuration_error() -> None:
    with fresh_postgres_database("POSTGRES18") as url:
        wrong = parse_database_url(url.replace("postgres@", "nobody@"))
        with pytest.raises(ConfigError):
            postgres.open_sink(wrong, CONFIG).open(take_over=True)


@pytest.mark.parametrize("url", ["postgresql://u@127.0.0.1:1/d", "mysql://u:p@127.0.0.1:1/d"])
def test_an_unreachable_target_is_worth_another_try(url: str) -> None:
    parsed = parse_database_url(url)
    module = postgres if parsed.engine == "postgresql" else mysql
    with pytest.raises(TargetUnavailableError):
        module.open_sink(parsed, CONFIG).open(take_over=True)


@EVERYWHERE
@pytest.mark.case("K9", verdict="STOP(ROW_REJECTED)")
def test_a_value_too_long_is_rejected_with_its_column_and_without_the_value(name: str) -> None:
    with world_of(name) as world:
        t, s = world.table("t"), world.stream
        s.insert(t, **row(1))
        s.commit()
        world.apply()
        s.insert(t, **row(2, 0, "y" * 61))
        s.commit()
        error = world.failure()
        assert (error.code, error.column) == ("ROW_REJECTED", "name")
        assert "yyyy" not in str(error)
        assert world.rows(t) == [(1, 0, "n")]


@BOTH
def test_a_table_that_appears_with_a_unique_key_meanwhile_is_noticed(name: str) -> None:
    with world_of(name) as world, running(world):
        t, s = world.table("t"), world.stream
        for n in (1, 2):
            s.insert(t, **row(n, n, f"mail{n}"))
        s.commit()
        wait_until(lambda: world.status.applied_seq == 0, 20, "the rows are there")
        world.harness.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
        s.update(t, **row(1, 1, "x"))
        s.update(t, **row(2, 2, "mail1"))
        s.update(t, **row(1, 1, "mail2"))
        s.commit()
        wait_until(lambda: world.status.applied_seq == 1, 20, "the values have changed places")
        assert world.rows(t) == [(1, 1, "mail2"), (2, 2, "mail1")]


def test_a_read_only_postgres_is_waited_for() -> None:
    with world_of("POSTGRES18") as world:
        t, s = world.table("t"), world.stream
        assert isinstance(world.harness, PostgresHarness)
        database = world.harness.connection.info.dbname
        s.insert(t, **row(1))
        s.commit()
        world.apply()
        world.harness.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        s.insert(t, **row(2))
        s.commit()
        with running(world):
            wait_until(lambda: world.status.retries > 0, 20, "the sink tries again")
            assert world.status.last_error is not None
            assert "read-only" in world.status.last_error.message + world.status.last_error.remedy
            world.harness.execute("SET default_transaction_read_only = off")
            world.harness.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
            wait_until(lambda: world.status.applied_seq == 1, 30, "the row is there")
        assert world.rows(t) == [(1, 0, "n"), (2, 0, "n")]


@BOTH
def test_a_session_that_is_ended_again_and_again_loses_nothing(name: str) -> None:
    with world_of(name) as world, running(world):
        t, s = world.table("t", key=()), world.stream
        for n in range(40):
            s.insert(t, **row(n))
            s.commit()
            if n % 8 == 7:
                wait_until(lambda: world.status.applied_seq >= 0, 20, "the sink is at work")
                end_sessions(world)
        wait_until(lambda: world.status.applied_seq == 39, 60, "all rows are there")
        assert world.rows(t) == [(n, 0, "n") for n in range(40)]
        assert world.status.retries > 0


def end_sessions(world: World) -> None:
    target = world.harness
    if isinstance(target, PostgresHarness):
        target.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'tailrace sink'"
        )
        return
    assert isinstance(target, MySqlHarness)
    database = target.url.database
    for (number,) in target.query(f"SELECT id FROM information_schema.processlist WHERE db = '{database}'"):
        target.execute(f"KILL {number}")


@pytest.mark.timeout(180)
@BOTH
def test_a_target_that_is_killed_and_comes_back_has_every_row_once(name: str) -> None:
    with private_server(name) as server:
        url = server.url
        target = PostgresHarness(url) if name.startswith("POSTGRES") else MySqlHarness(with_database(url))
        world = World(target)
        t, s = world.table("t", key=()), world.stream
        with running(world):
            for n in range(30):
                s.insert(t, **row(n))
                s.commit()
                if n in (10, 20):
                    wait_until(lambda: world.status.applied_seq >= 5, 30, "some rows are there")
                    server.kill()
                    server.start()
            wait_until(lambda: world.status.applied_seq == 29, 90, "all rows are there")
        world.close()
        target.connection.close()
        again = type(target)(url if name.startswith("POSTGRES") else with_database(url, make=False))
        world.harness = again
        assert world.rows(t) == [(n, 0, "n") for n in range(30)]
        again.close()


def with_database(url: str, *, make: bool = True) -> str:
    parts = parse_database_url(url)
    if make:
        session = Session(parts, 10)
        session.run("CREATE DATABASE target")
        session.close()
    return url.rstrip("/") + "/target"


def test_a_role_without_rights_gets_every_finding_with_its_statement() -> None:
    with world_of("POSTGRES18") as world:
        assert isinstance(world.harness, PostgresHarness)
        world.harness.execute("DROP ROLE IF EXISTS plain_sink")
        world.harness.execute("CREATE ROLE plain_sink LOGIN")
        url = parse_database_url(world.harness.url.replace("postgres@", "plain_sink@"))
        found = postgres.open_sink(url, world.config).findings([world.table("t")])
        assert [(f.level, f.code) for f in found] == [
            ("error", "TARGET_GRANT"),
            ("error", "TARGET_GRANT"),
            ("warning", "TRIGGERS_FIRE"),
        ]
        for finding in found:
            world.harness.execute(finding.remedy)
        assert postgres.open_sink(url, world.config).findings([world.table("t")]) == []
        world.harness.sinks.append(postgres.open_sink(url, world.config))
        world.sink = world.harness.sinks[-1]
        world.stream.insert(world.table("t"), **row(1))
        world.stream.commit()
        world.apply()
        world.close()
        with psycopg.connect(world.harness.url, autocommit=True) as admin:
            admin.execute("DROP OWNED BY plain_sink")
            admin.execute("REVOKE SET ON PARAMETER session_replication_role FROM plain_sink")
            admin.execute("DROP ROLE plain_sink")


@EVERYWHERE
@pytest.mark.case("C15", verdict="=")
def test_readers_see_a_transaction_over_several_tables_whole_or_not(name: str) -> None:
    """Two tables whose sum never changes, watched while transfers are applied."""
    with world_of(name) as world:
        a, b, s = world.table("a"), world.table("b"), world.stream
        s.insert(a, **row(1, 100))
        s.insert(b, **row(1, 100))
        s.commit()
        world.apply()
        query = f"SELECT (SELECT v FROM {world.name(a)}) + (SELECT v FROM {world.name(b)})"
        sums = []
        with running(world):
            for n in range(60):
                s.update(a, **row(1, 100 - n))
                s.update(b, **row(1, 100 + n))
                s.commit()
                sums += world.harness.query(query)
            wait_until(lambda: world.status.applied_seq == 60, 30, "all transfers are there")
        assert set(sums) == {(200,)}
        assert world.rows(a) == [(1, 41, "n")]


@EVERYWHERE
@pytest.mark.case("K12", verdict="=")
def test_triggers_that_fire_for_applied_changes_are_listed_or_refused(name: str) -> None:
    """On Postgres those enabled ALWAYS; MySQL's cannot be switched off."""
    with world_of(name) as world:
        t, s = world.table("t"), world.stream
        s.insert(t, **row(1))
        s.commit()
        world.apply()
        world.harness.history("t")
        allowing, refusing = world.config, replace(world.config, target_triggers="refuse")
        for config, level in ((allowing, "warning"), (refusing, "error")):
            sink = world.harness.sink(config)
            found = [f for f in sink.findings([t]) if f.code == "TARGET_TRIGGER"]
            assert {f.level for f in found} == {level}
        for finding in found:
            world.harness.execute(finding.remedy.replace("`", '"'))
        assert not [f for f in sink.findings([t]) if f.code == "TARGET_TRIGGER"]
