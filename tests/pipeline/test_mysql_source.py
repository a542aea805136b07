"""MySQL and MariaDB into the embedded log: load and stream, rebuilt by fastavro, equal the source."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from fix_capture import LogReading, RunningCapture, rebuild, running_capture
from fix_mysql import Sql, mysql_source
from fix_servers import MYSQL_FAMILY, wait_until

import tailrace_capture.mysql.snapshot
from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers


@pytest.fixture(params=MYSQL_FAMILY)
def database(request: pytest.FixtureRequest, mysql_database: Any) -> str:
    return str(mysql_database(request.param))


@pytest.fixture
def sql(database: str) -> Iterator[Sql]:
    session = Sql(database)
    yield session
    session.close()


def loaded(capture: RunningCapture) -> bool:
    capture.check()
    tables = capture.status.tables
    return bool(tables) and all(t.state == "streaming" for t in tables.values())


def finish(url: str, log: EmbeddedLog, **settings: Any) -> None:
    """Capture up to the source's present end."""
    with running_capture(mysql_source(url), log, until_current=True, **settings) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "current")


TABLES = {
    "a": "id int primary key, v int not null, t varchar(200)",
    "b": "k varchar(20) primary key, t text",
    "c": "x bigint unsigned, y date, v int, primary key(y, x)",
}


def fill(sql: Sql) -> None:
    for name, columns in TABLES.items():
        sql.run(f"CREATE TABLE {name}({columns}) CHARSET utf8mb4")
    rows = [f"({n}, 0, repeat('t', 100))" for n in range(1, 5001)]
    sql.run(f"INSERT INTO a VALUES {','.join(rows)}")
    rows = [f"('k{n}', repeat('u', 50))" for n in range(3000)]
    sql.run(f"INSERT INTO b VALUES {','.join(rows)}")
    rows = [f"({n}, '2024-01-01' + interval {n % 90} day, {n})" for n in range(3000)]
    sql.run(f"INSERT INTO c VALUES {','.join(rows)}")


def write(url: str, stop: threading.Event, seed: int, counts: list[int]) -> None:
    """Inserts, updates, key changes, deletes and many-table transactions until told to stop."""
    draw = random.Random(seed)
    session = Sql(url)
    session.run("SET autocommit = 0", "SET SESSION innodb_lock_wait_timeout = 5")
    while not stop.is_set():
        k = draw.randrange(6000)
        statements = {
            0: [f"DELETE FROM a WHERE id = {k}"],
            1: [f"INSERT IGNORE INTO a VALUES ({k}, 1, 'new')"],
            2: [f"UPDATE IGNORE a SET id = {k + 10_000} WHERE id = {k}"],
            3: [
                f"INSERT INTO b VALUES ('k{k}', 'x') ON DUPLICATE KEY UPDATE t = concat(b.t, 'x')",
                f"UPDATE a SET v = v + 1 WHERE id = {k}",
            ],
            4: [f"DELETE FROM b WHERE k = 'k{k}'", f"UPDATE IGNORE b SET k = upper(k) WHERE k = 'k{k + 1}'"],
            5: [f"UPDATE c SET v = v + 1 WHERE x BETWEEN {k} AND {k + 20}"],
            6: [f"UPDATE IGNORE c SET y = y + interval 50 day WHERE x = {k}"],
            7: [f"UPDATE a SET v = v + 1 WHERE id BETWEEN {k} AND {k + 5}", f"DELETE FROM c WHERE x = {k + 7}"],
        }[draw.randrange(8)]
        try:
            session.run(*statements, "COMMIT")
        except pymysql.err.OperationalError:
            session.run("ROLLBACK")
        counts[0] += 1
    session.close()


def rows_of(sql: Sql, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    epoch = "DATEDIFF(y, '1970-01-01')"
    columns = {"c": f"x, {epoch}, v"}
    return {t: sorted(sql.run(f"SELECT {columns.get(t, '*')} FROM {t}")) for t in tables}


def log_rows(log: EmbeddedLog, url: str, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    got = rebuild(log)
    database = url.rpartition("/")[2]
    return {t: sorted(tuple(row.values()) for row in got.get(f"t.{database}.{t}", {}).values()) for t in tables}


@pytest.mark.case("E1", "E3", "E7", verdict="=")
def test_load_under_writes_rebuilds_the_source(database: str, sql: Sql, tmp_path: Path, seed: int) -> None:
    fill(sql)
    log = EmbeddedLog(tmp_path / "log.db", "t")
    stop, counts = threading.Event(), [0]
    writers = [threading.Thread(target=write, args=(database, stop, seed + n, counts)) for n in range(3)]
    for writer in writers:
        writer.start()
    try:
        with running_capture(mysql_source(database), log) as capture:
            wait_until(lambda: loaded(capture), 60, "the load is done")
            before = counts[0]
            wait_until(lambda: counts[0] > before + 200, 30, "more writes")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    finish(database, log)
    assert log_rows(log, database, *TABLES) == rows_of(sql, *TABLES)


@pytest.mark.parametrize(("name", "streamed"), [("MYSQL80", ["c", "u", "d", "c", "d"]), ("MARIADB118", [])])
@pytest.mark.case("E3", verdict="=")
def test_what_commits_just_before_the_view_is_opened_comes_once(
    name: str, streamed: list[str], mysql_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view shows it before the stream has met it. MariaDB says so; MySQL's boundary was read before, so there the
    chunk goes back and the stream brings it (rules B6, B7)."""
    url = mysql_database(name)
    session, log = Sql(url), EmbeddedLog(tmp_path / "log.db", "t")
    session.run("CREATE TABLE a (id int primary key, v int)", "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)")
    late = ["INSERT INTO a VALUES (4, 4)", "UPDATE a SET v = 5 WHERE id = 1"]
    late += ["UPDATE a SET id = 9 WHERE id = 2", "DELETE FROM a WHERE id = 3"]
    source, view = mysql_source(url), tailrace_capture.mysql.snapshot.consistent_view

    def late_view(connection: Any) -> None:
        """A view opened before the stream knows its place is refused: the changes wait for one that is not."""
        while late and source.knows_its_place():
            session.run(late.pop(0))
        view(connection)

    monkeypatch.setattr(tailrace_capture.mysql.snapshot, "consistent_view", late_view)
    with running_capture(source, log) as capture:
        wait_until(lambda: loaded(capture), 30, "the load is done")
    finish(url, log)
    events = [v for _, _, v in LogReading(log).events() if v is not None and "op" in v]
    assert [e["op"] for e in events if e["op"] != "r"] == streamed
    assert log_rows(log, url, "a") == rows_of(session, "a") == {"a": [(1, 5), (4, 4), (9, 2)]}
    session.close()


def test_transaction_ids_and_orders_are_consecutive(database: str, sql: Sql, tmp_path: Path) -> None:
    sql.run("CREATE TABLE a (id int primary key, v int)", "CREATE TABLE b (id int primary key, v int)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with running_capture(mysql_source(database), log) as capture:
        wait_until(lambda: loaded(capture), 30, "capture runs")
        sql.run("BEGIN", "INSERT INTO a VALUES (1, 1), (2, 2)", "INSERT INTO b VALUES (1, 1)")
        sql.run("UPDATE a SET id = 3 WHERE id = 1", "DELETE FROM b", "COMMIT")
    finish(database, log)
    events = [v for _, _, v in LogReading(log).events() if v is not None and "op" in v]
    events.sort(key=lambda e: e["transaction"]["total_order"])
    assert [(e["transaction"]["total_order"], e["op"]) for e in events] == [
        (1, "c"), (2, "c"), (3, "c"), (4, "d"), (5, "c"), (6, "d"),
    ]  # fmt: skip
    assert [e["transaction"]["data_collection_order"] for e in events] == [1, 2, 1, 3, 4, 2]
    assert {e["transaction"]["id"] for e in events} == {e["source"]["gtid"] for e in events}
    assert len({e["transaction"]["id"] for e in events}) == 1
