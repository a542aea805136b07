"""The judges of the matrix are judged: equal sides are equal on every pair of engines, each planted fault is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fix_pipeline import side
from pipeline.matrix import history
from pipeline.matrix.compare import differences
from pipeline.matrix.engine import Side, create_tables
from pipeline.matrix.fill import fill
from pipeline.matrix.tables import BY_NAME

pytestmark = pytest.mark.servers
ROWS = 300
SERVERS = ["POSTGRES18", "MYSQL80", "MYSQL9", "MARIADB118"]


@pytest.fixture
def sides() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _filled(stack: ExitStack, server: str, seed: int, *, watched: bool = False) -> Side:
    found = stack.enter_context(side(server, "shop"))
    if found.engine == "postgresql":
        with Side("postgresql", found.url, "public").session() as session:
            session.run("CREATE SCHEMA shop")
    create_tables(found)
    if watched:
        history.create_history(found)
    fill(found, seed, ROWS)
    return found


def _run(target: Side, *statements: str) -> None:
    with target.session() as session:
        for statement in statements:
            session.run(statement)


@pytest.mark.parametrize("target", SERVERS)
def test_same_rows_are_equal_whatever_the_engine(target: str, sides: ExitStack, seed: int) -> None:
    here, there = _filled(sides, "POSTGRES18", seed), _filled(sides, target, seed)
    assert differences(here, there) == []


FAULTS = [
    ("accounts", "DELETE FROM accounts WHERE id = 12"),
    ("accounts", "UPDATE accounts SET version = version - 1 WHERE id = 12"),
    ("journal", "INSERT INTO journal SELECT * FROM journal WHERE tag = 11"),
    ("journal", "INSERT INTO journal SELECT * FROM journal WHERE tag = 0 LIMIT 1"),
    ("wide", "UPDATE wide SET txt = concat(coalesce(txt, ''), ' ') WHERE id = 13"),
    ("wide", "UPDATE wide SET clock = NULL WHERE clock IS NOT NULL"),
    ("words", "UPDATE words SET word = upper(word) WHERE word LIKE 'zebra%'"),
]


@pytest.mark.parametrize("target", ["POSTGRES18", "MARIADB118"])
def test_each_planted_fault_is_found(target: str, sides: ExitStack, seed: int) -> None:
    here, there = _filled(sides, "POSTGRES18", seed), _filled(sides, target, seed)
    for table, fault in FAULTS:
        _run(there, fault)
        found = differences(here, there)
        assert found, fault
        assert found[0].startswith(f"{table}: "), found
        assert {line.split(":")[0].strip() for line in found[1:]} <= {"only at the source", "only at the target"}
        _run(there, f"DELETE FROM {table}")
        fill(there, seed, ROWS, [BY_NAME[table]])
    assert differences(here, there) == []


SET = "UPDATE accounts SET version = {} WHERE id = 12"
GONE = "DELETE FROM accounts WHERE id = 500012"
COPY = "INSERT INTO accounts SELECT id + 500000, name, balance, active, changed, 7 FROM accounts WHERE id = 12"


@pytest.mark.parametrize("target", ["POSTGRES18", "MARIADB118"])
@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ([SET.format(5), SET.format(9), COPY, GONE, COPY.replace("7 FROM", "8 FROM")], []),
        ([SET.format(5), SET.format(5)], ["twice: accounts '12' version 5 U"]),
        ([SET.format(1)], ["backwards: accounts '12' version 1 U after 1 I"]),
        ([SET.format(5), SET.format(4)], ["backwards: accounts '12' version 4 U after 5 U"]),
        ([COPY, GONE, COPY], ["twice: accounts '500012' version 7 I"]),
    ],
)
def test_history_tells_what_was_applied_twice(
    target: str, statements: list[str], found: list[str], sides: ExitStack, seed: int
) -> None:
    there = _filled(sides, target, seed, watched=True)
    _run(there, *statements)
    faults = history.faults(there)
    assert bool(faults) == bool(found), faults
    assert all(any(line.startswith(text) for line in faults) for text in found)


def test_table_that_starts_again_is_no_repetition(sides: ExitStack, seed: int) -> None:
    there = _filled(sides, "POSTGRES18", seed, watched=True)
    _run(there, "CREATE TABLE kept AS SELECT * FROM codes", "TRUNCATE codes", "INSERT INTO codes SELECT * FROM kept")
    assert history.faults(there) == []


@pytest.mark.parametrize("target", ["POSTGRES18", "MARIADB118"])
@pytest.mark.parametrize(("emptied", "starts_again"), [("", True), ("WHERE id > (SELECT * FROM one)", False)])
def test_tables_loaded_together_may_start_again_once_they_are_empty(
    target: str, emptied: str, starts_again: bool, sides: ExitStack, seed: int
) -> None:
    there = _filled(sides, target, seed, watched=True)
    _run(
        there,
        "CREATE TABLE kept AS SELECT * FROM children",
        "CREATE TABLE one AS SELECT min(id) AS id FROM children",
        f"DELETE FROM children {emptied}",
        "INSERT INTO children SELECT * FROM kept WHERE id NOT IN (SELECT id FROM children)",
    )
    assert bool(history.faults(there)) != starts_again
