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

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers
Fresh = Callable[[str], str]
VERSIONS = pytest.mark.parametrize("version", ["POSTGRES14", "POSTGRES18"])


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
@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.case("A20", verdict="STOP(ENCODING)")
def test_bytes_that_are_no_text_stop_their_table_and_no_other(version: str, loaded: bool, tmp_path: Path) -> None:
    """SQL_ASCII takes any bytes."""
    options = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with fresh_postgres_database(version, options) as url:
        run(url, "CREATE TABLE a (id int PRIMARY KEY, v text)", "CREATE TABLE b (id int PRIMARY KEY)")
        if not loaded:
            drain(url, log, tmp_path)
        run(url, "INSERT INTO a VALUES (1, 'x' || chr(233))", "INSERT INTO b VALUES (1)")
        drain(url, log, tmp_path)
        stops = [m.data for r in LogReading(log).records() for m in r.markers if m.kind == "stopped"]
        print(stops)
        assert [(s["code"], s["column"]) for s in stops] == [("ENCODING", "v")]
        run(url, "UPDATE a SET v = 'fine'")
        drain(url, log, tmp_path)
    tables = rebuild(log)
    assert list(tables["t.public.a"].values()) == [{"id": 1, "v": "fine"}]
    assert list(tables["t.public.b"].values()) == [{"id": 1}]
