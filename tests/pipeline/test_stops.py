"""What stops a pipeline is told with its table, column and position, and what docs/errors.md says brings it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_command import Ended, tailrace

from tailrace_schemas.errors import LOAD_AGAIN

pytestmark = pytest.mark.servers


def sql(url: str, *statements: str) -> list[Any]:
    """Run them; the rows of the last."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def ends(postgres_database: Callable[[str], str], tmp_path: Path) -> tuple[str, str]:
    """Source and target, equal, with a pipeline that has stopped in peace."""
    source, target = postgres_database("POSTGRES18"), postgres_database("POSTGRES18")
    sql(
        source,
        "create table a (id int primary key, v text)",
        "insert into a select n, 'v' from generate_series(1, 9) n",
    )
    assert run(tmp_path, source, target).code == 0
    return source, target


def run(home: Path, source: str, target: str) -> Ended:
    return tailrace(home, "run", source, target, "--until-current", "--json")


def error_of(ended: Ended) -> dict[str, Any]:
    (error,) = json.loads(ended.out.splitlines()[-1])["errors"]
    return dict(error)


def rows(url: str) -> list[Any]:
    return sql(url, "select id, v from a order by id")


def test_a_lost_slot_is_named_and_a_new_load_makes_both_ends_equal(ends: tuple[str, str], tmp_path: Path) -> None:
    source, target = ends
    name = source.rpartition("/")[2]
    sql(source, f"select pg_drop_replication_slot('tailrace_{name}')", "delete from a where id < 4")
    stopped = run(tmp_path, source, target)
    assert stopped.code == 5, stopped.text
    error = error_of(stopped)
    assert (error["process"], error["code"], error["remedy"]) == ("capture", "SLOT_LOST", LOAD_AGAIN)
    assert error["position"].startswith("lsn:")
    assert f"position: {error['position']}\n" in stopped.err
    assert len(rows(target)) == 9

    assert tailrace(tmp_path, "drop", "--name", name, "--yes").code == 0
    sql(target, "truncate table a")
    assert run(tmp_path, source, target).code == 0
    assert rows(target) == rows(source) == [(n, "v") for n in range(4, 10)]


def test_a_sink_goes_on_after_the_statement_of_its_error(ends: tuple[str, str], tmp_path: Path) -> None:
    source, target = ends
    sql(target, "alter table a add own int not null default 0", "alter table a alter own drop default")
    sql(source, "insert into a values (10, 'new')", "delete from a where id = 1")
    stopped = run(tmp_path, source, target)
    assert stopped.code == 1, stopped.text
    error = error_of(stopped)
    assert (error["process"], error["code"]) == ("sink-postgres", "TARGET_MISFIT")
    assert (error["table"], error["column"]) == ("public.a", "own")
    assert error["position"].startswith("lsn:")
    assert "[public.a]" in stopped.err

    sql(target, error["remedy"])
    assert run(tmp_path, source, target).code == 0
    assert rows(target) == rows(source)
    assert len(rows(target)) == 9


@pytest.mark.parametrize("engine", ["POSTGRES18", "MARIADB118"])
def test_a_first_load_into_a_table_with_rows_is_warned_of(
    engine: str,
    postgres_database: Callable[[str], str],
    mysql_database: Callable[[str], str],
    tmp_path: Path,
) -> None:
    source = postgres_database("POSTGRES18")
    target = postgres_database(engine) if engine == "POSTGRES18" else mysql_database(engine)
    sql(source, "create table a (id int primary key)", "insert into a values (1)")

    def warned(*flags: str) -> list[tuple[str, str]]:
        found = json.loads(tailrace(tmp_path, "check", source, target, "--json", *flags).out)["findings"]
        return [(f["level"], f["remedy"]) for f in found if f["code"] == "TARGET_NOT_EMPTY"]

    assert warned() == []
    assert run(tmp_path, source, target).code == 0
    assert warned() == []
    ended = tailrace(tmp_path, "drop", "--yes", variables={"TAILRACE_MYSQL_PASSWORD": "pw"})
    assert ended.code == 0, ended.text
    name = '"public"."a"' if engine == "POSTGRES18" else f"`{target.rpartition('/')[2]}`.`a`"
    assert warned() == [("warning", f"TRUNCATE TABLE {name}")]
    assert warned("--mode", "cdc") == []
