"""Case A20: databases in other encodings, and JSON texts that not every server takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import LogReading, postgres_source, rebuild, running_capture
from fix_command import tailrace
from fix_mysql import Sql
from fix_servers import fresh_postgres_database, wait_until
from fix_versions import EVERY_POSTGRES

from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import StopError

pytestmark = pytest.mark.servers
Fresh = Callable[[str], str]
VERSIONS = pytest.mark.parametrize("version", EVERY_POSTGRES)


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as connection:
        for statement in statements:
            connection.execute(statement.encode())


def drain(url: str, log: EmbeddedLog, folder: Path) -> None:
    with running_capture(postgres_source(url, folder / "spool"), log, until_current=True) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


def rows(log: EmbeddedLog) -> list[tuple[Any, ...]]:
    (found,) = rebuild(log).values()
    return sorted(tuple(row.values()) for row in found.values())


@VERSIONS
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
@pytest.mark.case("A20", verdict="=")
def test_text_of_a_database_in_another_encoding_arrives(version: str, encoding: str, tmp_path: Path) -> None:
    word = "日本" if encoding == "EUC_JP" else "Grüße"
    options = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with fresh_postgres_database(version, options) as url:
        run(url, f'CREATE TABLE a ("{word}" text PRIMARY KEY, v text)', f"INSERT INTO a VALUES ('{word}', '{word} 1')")
        drain(url, log, tmp_path)
        run(url, f"INSERT INTO a VALUES ('{word}2', '{word}')", f"UPDATE a SET v = '{word} 2' WHERE v = '{word} 1'")
        drain(url, log, tmp_path)
    assert rows(log) == [(word, f"{word} 2"), (f"{word}2", word)]


@VERSIONS
@pytest.mark.case("A20", verdict="STOP(ENCODING)")
def test_bytes_that_are_no_text_stop_their_table_in_the_load_and_all_in_the_stream(
    version: str, tmp_path: Path
) -> None:
    """SQL_ASCII takes any bytes; its server refuses to send them as UTF-8."""
    options = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with fresh_postgres_database(version, options) as url:
        run(url, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE TABLE b (id int PRIMARY KEY)")
        run(url, "INSERT INTO a VALUES (1, 'x' || chr(233))", "INSERT INTO b VALUES (1)")
        drain(url, log, tmp_path)
        assert [m.data["code"] for r in LogReading(log).records() for m in r.markers if m.kind == "stopped"] == [
            "ENCODING"
        ]
        run(url, "UPDATE a SET v = 'fine'")
        drain(url, log, tmp_path)
        assert rebuild(log)["t.public.a"] == {'{"id": 1}': {"id": 1, "v": "fine"}}
        run(url, "INSERT INTO a VALUES (2, chr(233))", "INSERT INTO b VALUES (2)")
        with pytest.raises(StopError) as caught:
            drain(url, log, tmp_path)
    assert (caught.value.code, bool(caught.value.hint)) == ("ENCODING", True)
    assert list(rebuild(log)["t.public.b"].values()) == [{"id": 1}]


SURROGATE = '{"a": "\\ud800"}'


@pytest.mark.timeout(120)
@pytest.mark.case("A20", verdict="DLQ", on="POSTGRES18")
def test_a_lone_surrogate_that_the_target_holds_for_no_json_is_set_aside(
    mysql_database: Fresh, postgres_database: Fresh, tmp_path: Path
) -> None:
    """Postgres' json takes it, that of MySQL and MariaDB does not."""
    source, target = postgres_database("POSTGRES18"), mysql_database("MYSQL80")
    run(source, "CREATE TABLE a (id int PRIMARY KEY, j json)", "INSERT INTO a VALUES (1, '{}')")
    assert through(tmp_path, source, target) == 0
    run(source, f"INSERT INTO a VALUES (2, '{SURROGATE}'), (3, '[]')")
    assert through(tmp_path, source, target) == 1
    sql = Sql(target)
    assert sorted(sql.run("SELECT id FROM a")) == [(1,), (3,)]
    sql.close()


@pytest.mark.case("A20", verdict="=", on="POSTGRES18")
def test_a_lone_surrogate_stays_as_it_is_written_where_the_target_takes_it(
    postgres_database: Fresh, tmp_path: Path
) -> None:
    source, target = postgres_database("POSTGRES18"), postgres_database("POSTGRES18")
    run(source, "CREATE TABLE a (id int PRIMARY KEY, j json)", f"INSERT INTO a VALUES (1, '{SURROGATE}')")
    assert through(tmp_path, source, target) == 0
    run(source, f"INSERT INTO a VALUES (2, '{SURROGATE}')")
    assert through(tmp_path, source, target) == 0
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT j::text FROM a").fetchall() == [(SURROGATE,)] * 2


def through(folder: Path, source: str, target: str) -> int:
    path = folder / "pipeline.yaml"
    sink = f"{{name: copy, url: '{target}', on_row_error: dead_letter}}"
    path.write_text(f"name: p\nsource: {{url: '{source}'}}\nsinks: [{sink}]\n")
    return tailrace(folder, "run", str(path), "--until-current").code
