"""What a target's session meets: others in the way of a batch, which is then applied again whole; values past strict mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pymysql
import pytest
from fix_servers import wait_until
from fix_sink import MySqlHarness, PostgresHarness, harness, running, world_of
from fix_versions import NEWEST, TARGETS

from tailrace_schemas.errors import RowRejectedError
from tailrace_schemas.table import TableId
from tailrace_sinks import mysql_session, postgres
from tailrace_sinks.conformance import World, row
from tailrace_sinks.mysql_session import Session

pytestmark = pytest.mark.servers


class Rival:
    """A session in a transaction of its own."""

    def __init__(self, target: PostgresHarness | MySqlHarness) -> None:
        self.connection: psycopg.Connection[tuple[object, ...]] | pymysql.Connection[pymysql.cursors.Cursor]
        if isinstance(target, PostgresHarness):
            self.connection = psycopg.connect(target.url)
            self.run("SET deadlock_timeout = '60s'")  # the other one notices first, and is the victim
            return
        url = target.url
        assert url.password is not None
        mode = "SET SESSION sql_mode = 'ANSI_QUOTES'"
        self.connection = pymysql.connect(
            host=url.host, port=url.port, user=url.user, password=url.password.reveal(), init_command=mode
        )

    def run(self, statement: str) -> None:
        if isinstance(self.connection, psycopg.Connection):
            self.connection.execute(statement.encode())
            return
        with self.connection.cursor() as cursor:
            cursor.execute(statement)


@contextmanager
def rival_of(world: World) -> Iterator[Rival]:
    assert isinstance(world.harness, PostgresHarness | MySqlHarness)
    rival = Rival(world.harness)
    try:
        yield rival
    finally:
        rival.connection.rollback()
        rival.connection.close()


def sink_waits(world: World) -> bool:
    if isinstance(world.harness, PostgresHarness):
        query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tailrace sink' AND wait_event_type = 'Lock'"
        return bool(world.harness.query(f"{query} AND datname = current_database()"))
    return bool(world.harness.query("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"))


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        pytest.param(name, trouble, marks=() if name in NEWEST else pytest.mark.slow)
        for name in TARGETS
        for trouble in ("timeout", "deadlock", *(["serialization"] * name.startswith("POSTGRES")))
    ],
)
@pytest.mark.case("C14", verdict="=")
def test_a_batch_that_another_session_stops_is_applied_again_whole(
    name: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trouble == "timeout":
        monkeypatch.setattr(
            postgres, "_SESSION", postgres._SESSION.replace("lock_timeout = '60s'", "lock_timeout = 300")
        )
        short = tuple(
            line.replace("lock_wait_timeout = 60", "lock_wait_timeout = 1") for line in mysql_session._SESSION
        )
        monkeypatch.setattr(mysql_session, "_SESSION", short)
    with world_of(name) as world:
        a, b, s = world.table("a"), world.table("b"), world.stream
        heap = world.table("c", key=())
        for table in (a, b, heap):
            s.insert(table, **row(1))
        for n in range(2, 200):
            s.insert(b, **row(n))
        s.commit()
        if trouble == "serialization":
            (database,) = world.harness.query("SELECT current_database()")[0]
            world.harness.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'")
        world.apply()
        with rival_of(world) as rival:
            rival.run(f"UPDATE {world.name(b)} SET v = v + 1")  # the larger one, which MySQL keeps
            s.update(a, **row(1, 5))
            s.insert(heap, **row(2))
            s.update(b, **row(1, 5))
            s.commit()
            with running(world):
                wait_until(lambda: sink_waits(world), 20, "the sink waits for the row")
                if trouble == "deadlock":
                    rival.run(f"UPDATE {world.name(a)} SET v = 9")
                if trouble == "serialization":
                    rival.connection.commit()
                wait_until(lambda: world.status.retries > 0, 20, "the batch is taken back")
                if trouble != "serialization":
                    assert (world.rows(a), world.rows(heap)) == ([(1, 0, "n")], [(1, 0, "n")])
                rival.connection.rollback()
                wait_until(lambda: world.status.applied_seq == 1, 30, "the batch is applied")
        assert world.rows(a) == [(1, 5, "n")]
        assert world.rows(b)[0] == (1, 5, "n")
        assert world.rows(heap) == [(1, 0, "n"), (2, 0, "n")]


@pytest.mark.parametrize("name", ["MYSQL80", "MYSQL9", "MARIADB118"])
@pytest.mark.case("A6", verdict="=")
def test_an_empty_enum_is_written_and_no_other_value_slips_in_with_it(name: str) -> None:
    with harness(name) as target:
        assert isinstance(target, MySqlHarness)
        target.execute(f'CREATE DATABASE "{target.schema}"')
        where = f"{target.schema}.t"
        target.execute(
            f"CREATE TABLE {where} (id int PRIMARY KEY, e enum('x') NOT NULL, n tinyint, t varchar(3) NOT NULL)"
        )
        session = Session(target.url, 10)
        table = TableId(target.schema, "t")
        assert session.write(f"INSERT INTO {where} VALUES (1, 'x', 1, 't'), (2, '', 1, 't')", table, {"e"}) == 2
        for values in ("(3, '', 999, 't')", "(3, '', 1, 'long')", "(3, '', 1, 't'), (4, 'x', 1, NULL)"):
            with pytest.raises(RowRejectedError):
                session.write(f"INSERT INTO {where} VALUES {values}", table, {"e"})
            session.run(f"DELETE FROM {where} WHERE id > 2")
        with pytest.raises(pymysql.MySQLError):
            session.write(f"INSERT INTO {where} VALUES (3, '', 1, 't')", table)
        assert target.query(f"SELECT id, e + 0 FROM {where} ORDER BY id") == [(1, 1), (2, 0)]
        session.close()
