"""The whole pipeline under `consistency: key`: capture's own partitions and markers, several connections to the target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pymysql
import pytest
import yaml
from fix_command import tailrace
from fix_servers import KAFKA, REGISTRY, server

from tailrace_schemas.uri import parse_database_url

pytestmark = pytest.mark.servers

ROWS = 3000


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def pipeline(folder: Path, source: str, target: str, log: str = "embedded") -> str:
    path, name = folder / "pipeline.yaml", source.rpartition("/")[2]
    sinks = [{"name": "copy", "url": target, "consistency": "key", "connections": 3}]
    data: dict[str, object] = {"name": name, "source": {"url": source}, "sinks": sinks}
    if log == "kafka":
        data["log"] = f"{server(KAFKA).url}?registry={server(REGISTRY).url}&prefix={name}"
    path.write_text(yaml.safe_dump(data))
    return str(path)


@pytest.mark.timeout(280)
@pytest.mark.parametrize("log", ["embedded", "kafka"])
def test_load_changes_and_markers_arrive_over_several_connections(
    postgres_database: Callable[[str], str], mysql_database: Callable[[str], str], tmp_path: Path, log: str
) -> None:
    source, target = postgres_database("POSTGRES18"), mysql_database("MARIADB118")
    run_sql(
        source,
        "create table a (id int primary key, v int, name varchar(40))",
        "create table b (name varchar(40) primary key, v int)",
        f"insert into a select n, n, 'n' || n from generate_series(1, {ROWS}) n",
        f"insert into b select 'n' || n, n from generate_series(1, {ROWS}) n",
    )
    words = pipeline(tmp_path, source, target, log)
    done = tailrace(tmp_path, "run", words, "--until-current", timeout=100)
    assert done.code == 0, done.text
    run_sql(
        source,
        "update a set v = v + 1 where id % 3 = 0",
        "truncate b",
        "insert into b select 'm' || n, n from generate_series(1, 50) n",
        "alter table a add column extra text",
        "update a set extra = 'x', id = id + 10000 where id < 100",
        "delete from a where id % 7 = 0",
    )
    done = tailrace(tmp_path, "run", words, "--until-current", timeout=100)
    assert done.code == 0, done.text
    url = parse_database_url(target)
    password = url.password.reveal() if url.password else ""
    with (
        psycopg.connect(source) as left,
        pymysql.connect(
            host=url.host, port=url.port, user=url.user, password=password, database=url.database
        ).cursor() as right,
    ):
        for query in ("SELECT id, v, name, extra FROM a ORDER BY id", "SELECT name, v FROM b ORDER BY v"):
            right.execute(query)
            assert list(right.fetchall()) == left.execute(query.encode()).fetchall()


def test_a_table_that_cannot_be_applied_so_is_a_finding(
    postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    source, target = postgres_database("POSTGRES18"), postgres_database("POSTGRES18")
    run_sql(source, "create table keyless (v int)", "alter table keyless replica identity full")
    done = tailrace(tmp_path, "check", pipeline(tmp_path, source, target))
    assert (done.code, "KEY_KEYLESS" in done.text) == (3, True), done.text
