"""Hard cases of MySQL and MariaDB that need a server of their own, or a target of the other family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import LogReading, rebuild, running_capture
from fix_command import tailrace
from fix_mysql import Sql, mysql_source
from fix_servers import MARIADB_NAMES, private_server, wait_until
from fix_versions import EVERY_MYSQL_FAMILY

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers
FAMILY = pytest.mark.parametrize("name", EVERY_MYSQL_FAMILY)
Fresh = Callable[[str], str]


@contextmanager
def session(url: str) -> Iterator[Sql]:
    sql = Sql(url)
    try:
        yield sql
    finally:
        sql.close()


def drain(url: str, log: EmbeddedLog, seconds: float = 60) -> None:
    with running_capture(mysql_source(url), log, until_current=True) as capture:
        wait_until(lambda: not capture.thread.is_alive(), seconds, "the log is current")


def rows(log: EmbeddedLog, table: str) -> list[tuple[Any, ...]]:
    (found,) = (rows for topic, rows in rebuild(log).items() if topic.endswith(f".{table}"))
    return sorted(tuple(row.values()) for row in found.values())


@FAMILY
@pytest.mark.case("C6", verdict="=")
def test_an_xa_transaction_outlives_its_server(name: str, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with private_server(name) as server:
        url = server.url + "d"
        with session(server.url) as sql:
            sql.run("CREATE DATABASE d", "USE d", "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
            drain(url, log)
            sql.run("XA START 'x'", "INSERT INTO a VALUES (2)", "XA END 'x'", "XA PREPARE 'x'")
        with session(url) as sql:
            sql.run("INSERT INTO a VALUES (3)")
        drain(url, log)
        assert rows(log, "a") == [(1,), (3,)]
        server.kill()
        server.start()
        with session(url) as sql:
            sql.run("INSERT INTO a VALUES (4)", "XA COMMIT 'x'")
            drain(url, log)
            assert rows(log, "a") == sorted(sql.run("SELECT * FROM a")) == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("name", EVERY_MYSQL_FAMILY[1:])  # 5.7 has no such setting
@pytest.mark.case("A8", verdict="=")
def test_text_whose_columns_the_log_does_not_name_is_read_by_its_own_character_set(name: str, tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with private_server(name, config="binlog_row_metadata=MINIMAL") as server, session(server.url) as sql:
        sql.run("CREATE DATABASE d", "USE d", "SET NAMES utf8mb4")
        sql.run("CREATE TABLE a (id int PRIMARY KEY, l char(9) CHARSET latin1, b blob)")
        drain(server.url + "d", log)
        sql.run("INSERT INTO a VALUES (1, 'é', x'00ff')", "SET GLOBAL binlog_row_metadata = FULL")
        sql.run("INSERT INTO a VALUES (2, 'ü', x'c328')")
        drain(server.url + "d", log)
        assert [m.kind for r in LogReading(log).records() for m in r.markers if m.kind == "stopped"] == []
        assert rows(log, "a") == [(1, "é", b"\x00\xff"), (2, "ü", b"\xc3\x28")]


@FAMILY
@pytest.mark.timeout(120)
@pytest.mark.case("B10", verdict="=")
def test_a_key_that_changes_its_case_is_one_row_in_postgres(
    name: str, mysql_database: Fresh, postgres_database: Fresh, tmp_path: Path
) -> None:
    source, target = mysql_database(name), postgres_database("POSTGRES18")
    words = ("run", source, target, "--name", "p", "--until-current")
    with session(source) as sql:
        sql.run("SET NAMES utf8mb4")
        sql.run("CREATE TABLE a (k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v int) CHARSET utf8mb4")
        sql.run("INSERT INTO a VALUES ('0', 1), ('a', 1), ('B', 1), ('é1', 1), ('Z', 1), ('_', 1)")
        assert tailrace(tmp_path, *words).code == 0
        sql.run("UPDATE a SET k = 'A' WHERE k = 'a'", "UPDATE a SET k = 'b', v = 2 WHERE k = 'B'")
        sql.run("BEGIN", "DELETE FROM a WHERE k = 'z'", "INSERT INTO a VALUES ('z', 3)", "COMMIT")
        assert tailrace(tmp_path, *words).code == 0
        wanted = sorted(sql.run("SELECT k, v FROM a"))
    with psycopg.connect(target) as connection:
        query = f'SELECT k, v FROM "{source.rpartition("/")[2]}".a'
        assert sorted(connection.execute(query.encode()).fetchall()) == wanted


@pytest.mark.parametrize("name", EVERY_MYSQL_FAMILY)
@pytest.mark.timeout(120)
@pytest.mark.case("A20", verdict="DLQ")
def test_a_zero_byte_in_text_is_set_aside_and_never_cut(
    name: str, mysql_database: Fresh, postgres_database: Fresh, tmp_path: Path
) -> None:
    """Postgres' text holds none."""
    source, target = mysql_database(name), postgres_database("POSTGRES18")
    path = tmp_path / "pipeline.yaml"
    sink = f"{{name: copy, url: '{target}', on_row_error: dead_letter}}"
    path.write_text(f"name: p\nsource: {{url: '{source}'}}\nsinks: [{sink}]\n")
    with session(source) as sql:
        sql.run("CREATE TABLE a (id int PRIMARY KEY, t varchar(20))", "INSERT INTO a VALUES (1, 'x')")
        assert tailrace(tmp_path, "run", str(path), "--until-current").code == 0
        sql.run("INSERT INTO a VALUES (2, concat('b', char(0), 'c')), (3, 'z')")
        ended = tailrace(tmp_path, "run", str(path), "--until-current")
    assert ended.code == 1, ended.text
    assert tailrace(tmp_path, "status", "--name", "p", "--json").data["sinks"][0]["set_aside"] == 1
    with psycopg.connect(target) as connection:
        query = f'SELECT id, t FROM "{source.rpartition("/")[2]}".a ORDER BY id'
        assert connection.execute(query.encode()).fetchall() == [(1, "x"), (3, "z")]


@FAMILY
@pytest.mark.case("E2", verdict="=")
def test_a_transaction_open_when_the_load_begins_comes_once(name: str, mysql_database: Fresh, tmp_path: Path) -> None:
    url, log = mysql_database(name), EmbeddedLog(tmp_path / "log.db", "t")
    values = ", ".join(f"({n}, 1)" for n in range(2000))
    with session(url) as sql, session(url) as writer:
        sql.run("CREATE TABLE a (id int PRIMARY KEY, v int)", f"INSERT INTO a VALUES {values}")
        writer.run("BEGIN", "INSERT INTO a VALUES (3000, 3)", "UPDATE a SET v = 9 WHERE id IN (1, 1900)")
        writer.run("DELETE FROM a WHERE id IN (2, 1800)")
        with running_capture(mysql_source(url), log, chunk_rows=100, max_rows_per_second=2000) as capture:
            wait_until(lambda: any(t.chunks_done for t in capture.status.tables.values()), 30, "the load runs")
            writer.run("COMMIT")
            wait_until(lambda: all(t.state == "streaming" for t in capture.status.tables.values()), 60, "loaded")
        drain(url, log)
        assert rows(log, "a") == sorted(sql.run("SELECT * FROM a"))


@pytest.mark.case("H7", verdict="=", on="MARIADB118")
def test_positions_of_several_gtid_domains_are_kept(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with private_server("MARIADB118") as server, session(server.url) as sql:
        url = server.url + "d"
        sql.run("CREATE DATABASE d", "USE d", "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
        drain(url, log)
        for number in range(2, 10):
            sql.run(f"SET SESSION gtid_domain_id = {number % 3}", f"INSERT INTO a VALUES ({number})")
            if number % 2:
                drain(url, log)
        drain(url, log)
        assert rows(log, "a") == [(n,) for n in range(1, 10)]
        ids = [v["transaction"]["id"] for _, _, v in LogReading(log).events() if v and v.get("op") == "c"]
        assert len(set(ids)) == len(ids) == 8


@FAMILY
@pytest.mark.case("C13", verdict="=")
def test_a_server_killed_between_tables_with_and_without_transactions(name: str, tmp_path: Path) -> None:
    """What a table without transactions has is there and in the log, whatever became of the transaction."""
    log = EmbeddedLog(tmp_path / "log.db", "t")
    config = "" if name in MARIADB_NAMES else "gtid_mode=OFF\nenforce_gtid_consistency=OFF"  # else MySQL refuses to mix
    with private_server(name, config=config) as server:
        url = server.url + "d"
        with session(server.url) as sql:
            sql.run("CREATE DATABASE d", "USE d", "CREATE TABLE i (id int PRIMARY KEY, v int) ENGINE=InnoDB")
            sql.run("CREATE TABLE m (id int PRIMARY KEY, v int) ENGINE=MyISAM")
            sql.run("INSERT INTO i VALUES (1, 1), (2, 2)", "INSERT INTO m VALUES (1, 1), (2, 2)")
            drain(url, log)
            sql.run("BEGIN", "INSERT INTO m VALUES (3, 3)", "INSERT INTO i VALUES (3, 3)")
            sql.run("UPDATE m, i SET m.v = m.v + 10, i.v = i.v + 10 WHERE m.id = i.id")
            server.kill()
        server.start()
        drain(url, log)
        with session(url) as sql:
            sql.run("INSERT INTO i VALUES (9, 9)", "INSERT INTO m VALUES (9, 9)")
            drain(url, log)
            for table in ("i", "m"):
                assert rows(log, table) == sorted(sql.run(f"SELECT * FROM {table}"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["MYSQL80", "MARIADB118"])
@pytest.mark.case("C9", verdict="=")
def test_positions_beyond_4_gib_do_not_wrap(name: str, tmp_path: Path) -> None:
    """One transaction of more than 4 GiB stands in one file, whatever max_binlog_size says; what follows it in that
    file, too, where the server has no GTIDs and the place is all there is."""
    log = EmbeddedLog(tmp_path / "log.db", "t")
    config = "max_allowed_packet=128M\nmax_binlog_size=1G\nbinlog_cache_size=1M\ninnodb_redo_log_capacity=1G"
    config = config.replace("innodb_redo_log_capacity", "innodb_log_file_size") if name in MARIADB_NAMES else config
    with private_server(name, config=config) as server, session(server.url) as sql:
        url = server.url + "d"
        sql.run("CREATE DATABASE d", "USE d", "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
        sql.run("CREATE DATABASE other", "CREATE TABLE other.big (id int PRIMARY KEY AUTO_INCREMENT, b longblob)")
        drain(url, log)
        sql.run("BEGIN", "INSERT INTO a VALUES (2)")
        for _ in range(70):
            sql.run("INSERT INTO other.big (b) VALUES (repeat('x', 64000000))")
        sql.run("INSERT INTO a VALUES (3)", "SAVEPOINT s", "INSERT INTO a VALUES (4)", "COMMIT")
        assert sql.place().pos > 1 << 32 or sql.place().pos < 1 << 20, "it is in one file, or the first of the next"
        sql.run("INSERT INTO a VALUES (5)")
        drain(url, log, 600)
        drain(url, log, 600)
        assert rows(log, "a") == [(n,) for n in range(1, 6)]
        places = [v["source"]["pos"] for _, _, v in LogReading(log).events() if v and v.get("op") == "c"]
        assert max(places) > 1 << 32
