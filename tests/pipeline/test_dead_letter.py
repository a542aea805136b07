"""`on_row_error: dead_letter` from source to target: what the target refuses stands in the log, and the run says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from fix_command import tailrace
from fix_mysql import Sql

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.timeout(240)
@pytest.mark.case("K9", verdict="DLQ", on="POSTGRES18")
def test_what_the_target_refuses_is_set_aside_and_the_run_ends_with_1(
    postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    sink = {"consistency": "key", "connections": 2}
    source, target = postgres_database("POSTGRES18"), postgres_database("POSTGRES18")
    run_sql(
        source, "create table t (id int primary key, v int)", "insert into t select n, n from generate_series(1, 50) n"
    )
    run_sql(target, "create table t (id int primary key, v int check (v < 100))")
    path, name = tmp_path / "pipeline.yaml", source.rpartition("/")[2]
    sinks = [{"name": "copy", "url": target, "on_row_error": "dead_letter", **sink}]
    path.write_text(yaml.safe_dump({"name": name, "source": {"url": source}, "sinks": sinks}))
    done = tailrace(tmp_path, "run", str(path), "--until-current", timeout=100)
    assert done.code == 0, done.text
    run_sql(
        source,
        "update t set v = 1000 where id = 7",
        "update t set v = 60 where id = 8",
        "insert into t values (51, 500)",
    )
    done = tailrace(tmp_path, "run", str(path), "--until-current", timeout=100)
    assert done.code == 1, done.text
    status = tailrace(tmp_path, "status", "--name", name, "--json").data
    assert status["sinks"][0]["set_aside"] == 2
    with psycopg.connect(target) as connection:
        found: dict[int, int] = dict(connection.execute("select id, v from t").fetchall())
    assert found == {n: n for n in range(1, 51)} | {8: 60}
    (place,) = tmp_path.glob("tailrace/*/log.db")
    log = EmbeddedLog(place, name)
    reader = log.reader()
    letters = reader.dead_letters()
    assert [(letter.sink, letter.target, letter.code) for letter in letters] == [
        ("copy", "public.t", "ROW_REJECTED")
    ] * 2
    reader.close()
    log.close()
    run_sql(source, "update t set v = 7 where id = 7", "delete from t where id = 51")
    done = tailrace(tmp_path, "run", str(path), "--until-current", timeout=100)
    assert done.code == 0, done.text


class Target:
    """The table `t (id, v)` of a target that takes no v from 100 on, whatever its engine."""

    def __init__(self, url: str) -> None:
        self.url, self.is_mysql = url, url.startswith("mysql")
        self.run("create table t (id int primary key, v int, constraint few check (v < 100))")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        if self.is_mysql:
            session = Sql(self.url)
            found = session.run(statement)
            session.close()
            return found
        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []

    @property
    def rows(self) -> dict[int, int]:
        return dict(self.run("select id, v from t"))


@pytest.fixture(params=["sqlite-POSTGRES18", pytest.param("kafka-MARIADB118", marks=pytest.mark.slow)])
def replication(
    request: pytest.FixtureRequest,
    postgres_database: Callable[[str], str],
    mysql_database: Callable[[str], str],
    tmp_path: Path,
) -> tuple[str, Target, Path]:
    """Source, target and pipeline file over either log: 50 rows are there, 2 of 4 changes do not fit."""
    log, _, server = request.param.partition("-")
    source = postgres_database("POSTGRES18")
    name = source.rpartition("/")[2]
    target = Target((mysql_database if server == "MARIADB118" else postgres_database)(server))
    run_sql(
        source, "create table t (id int primary key, v int)", "insert into t select n, n from generate_series(1, 50) n"
    )
    if log == "kafka":
        broker, registry = request.getfixturevalue("kafka"), request.getfixturevalue("registry")
        log = f"kafka://{broker}?registry={registry}&prefix={name}&replication=1"
    sink = {"name": "copy", "url": target.url, "on_row_error": "dead_letter"}
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"name": name, "log": log, "source": {"url": source}, "sinks": [sink]}))
    return source, target, path


@pytest.mark.timeout(280)
@pytest.mark.case("K9", verdict="DLQ", on="POSTGRES18")
def test_letters_are_listed_and_replayed_once_whatever_is_killed(
    replication: tuple[str, Target, Path], tmp_path: Path
) -> None:
    source, target, path = replication
    name = source.rpartition("/")[2]

    def command(*words: str, variables: dict[str, str] | None = None) -> Any:
        password = {"TAILRACE_COPY_PASSWORD": "pw"}  # the MariaDB target's; no state folder keeps it
        found = {**password, **(variables or {})}
        return tailrace(tmp_path, "dead-letter", *words, "--name", name, "--json", variables=found)

    assert tailrace(tmp_path, "run", str(path), "--until-current", timeout=100).code == 0
    run_sql(
        source,
        "update t set v = 1000 where id = 7",
        "update t set v = 900 where id = 8",
        "update t set v = 60 where id = 9",
        "insert into t values (51, 500)",
    )
    assert tailrace(tmp_path, "run", str(path), "--until-current", timeout=100).code == 1
    status = tailrace(tmp_path, "status", "--name", name, "--json").data
    assert status["sinks"][0]["set_aside"] == 3
    assert status["source"]["harm"]["wal_kept_bytes"] > 0
    run_sql(source, "update t set v = 80 where id = 8")
    assert tailrace(tmp_path, "run", str(path), "--until-current", timeout=100).code == 1

    listed = command("list").data
    assert listed["states"] == {"superseded": 1, "waiting": 2}
    shown = {letter["key"]["id"]: letter for letter in listed["letters"]}
    assert {id_: letter["state"] for id_, letter in shown.items()} == {7: "waiting", 8: "superseded", 51: "waiting"}
    assert {letter["code"] for letter in shown.values()} == {"ROW_REJECTED"}
    event = command("show", shown[7]["id"]).data["event"]
    assert (event["op"], event["after"]) == ("u", {"id": 7, "v": 1000})

    still = command("replay", "--all")
    assert (still.code, still.data["replayed"], still.data["left"]) == (1, 0, 2)
    target.run("alter table t drop constraint few")
    for point in ("sink.before_commit", "sink.after_commit"):
        before = target.rows
        assert before == {n: n for n in range(1, 51)} | {8: 80, 9: 60}
        killed = command("replay", "--all", variables={"TAILRACE_FAILPOINT": f"{point}:1"})
        assert killed.code not in (0, 1), killed.text
    assert target.rows == {n: n for n in range(1, 51)} | {7: 1000, 8: 80, 9: 60, 51: 500}
    assert command("replay", "--all").data["replayed"] == 0
    assert command("discard", shown[8]["id"]).data == {"discarded": 1}
    assert command("list", "--all").data["states"] == {"discarded": 1, "replayed": 2}
    run_sql(source, "update t set v = 2 where id = 7")
    assert tailrace(tmp_path, "run", str(path), "--until-current", timeout=100).code == 0
    assert target.rows == {n: n for n in range(1, 51)} | {7: 2, 8: 80, 9: 60, 51: 500}
