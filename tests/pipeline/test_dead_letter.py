"""`on_row_error: dead_letter` from source to target: what the target refuses stands in the log, and the run says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import yaml
from fix_command import tailrace

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.timeout(240)
@pytest.mark.parametrize("sink", [{}, {"consistency": "key", "connections": 2}], ids=["transaction", "key"])
@pytest.mark.case("K9", verdict="DLQ", on="POSTGRES18")
def test_what_the_target_refuses_is_set_aside_and_the_run_ends_with_1(
    postgres_database: Callable[[str], str], tmp_path: Path, sink: dict[str, object]
) -> None:
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
