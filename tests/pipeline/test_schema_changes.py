"""Columns that change at the source, seen at the target: names and rows are equal after each round, whether capture was
running or down, and whether a row was touched afterwards or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from fix_command import started, tailrace
from fix_mysql import Sql
from fix_servers import wait_until

pytestmark = pytest.mark.servers

# Each round: statements of the source; then source and target are compared.
POSTGRES = [
    ["ALTER TABLE a ADD c int DEFAULT 7", "ALTER TABLE a RENAME y TO w"],
    ["INSERT INTO a (id, x) VALUES (101, 1)", "ALTER TABLE a ADD d text NOT NULL DEFAULT 'it''s'"],
    ["DELETE FROM a WHERE id = 3"],
    ["ALTER TABLE a ALTER x TYPE bigint USING x * 1000", "ALTER TABLE a ALTER w TYPE varchar(99)"],
    ["ALTER TABLE a DROP c", "ALTER TABLE a ADD c numeric(8,3) DEFAULT 1.5", "UPDATE a SET x = 5 WHERE id = 4"],
    ["ALTER TABLE a ADD e int DEFAULT (random() * 1e6)::int", "ALTER TABLE a ALTER e DROP DEFAULT"],
    ["ALTER TABLE a ALTER w TYPE int USING length(w)"],
    ["ALTER TABLE a DROP w", "ALTER TABLE a DROP d", "INSERT INTO a (id, x) VALUES (102, 2)"],
    ["ALTER TABLE a ADD f boolean NOT NULL DEFAULT true", "ALTER TABLE a ALTER x TYPE text"],
]
MYSQL = [
    ["ALTER TABLE a ADD c int DEFAULT 7", "ALTER TABLE a RENAME COLUMN y TO w"],
    ["INSERT INTO a (id, x) VALUES (101, 1)", "ALTER TABLE a ADD d varchar(9) NOT NULL DEFAULT 'it''s'"],
    ["DELETE FROM a WHERE id = 3"],
    ["ALTER TABLE a MODIFY x bigint", "ALTER TABLE a MODIFY w varchar(99)"],
    ["ALTER TABLE a DROP c, ADD c decimal(8,3) DEFAULT 1.5", "UPDATE a SET x = 5 WHERE id = 4"],
    ["ALTER TABLE a DROP COLUMN c, ADD COLUMN c decimal(8,3) DEFAULT 2.5"],
    ["ALTER TABLE a ADD e int DEFAULT 3", "ALTER TABLE a ALTER e DROP DEFAULT"],
    ["ALTER TABLE a DROP w", "ALTER TABLE a DROP d", "INSERT INTO a (id, x) VALUES (102, 2)"],
    ["ALTER TABLE a MODIFY x varchar(40)", "ALTER TABLE a ADD f int NOT NULL"],
]
TABLE = "CREATE TABLE a (id int PRIMARY KEY, x int, y varchar(20))"
ROWS = "INSERT INTO a VALUES " + ", ".join(f"({n}, {n}, 'row {n}')" for n in range(1, 41))


ENGINES = {"POSTGRES18": POSTGRES, "MYSQL80": MYSQL, "MARIADB118": MYSQL}


def run(url: str, *statements: str) -> None:
    if url.startswith("postgres"):
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
    else:
        Sql(url).run(*statements)


def content(url: str) -> dict[str, dict[str, str]]:
    """Row by its id; values as text that is the same on every engine."""
    with closing(psycopg.connect(url) if url.startswith("postgres") else Sql(url).connection) as session:
        cursor = session.cursor()
        cursor.execute("SELECT * FROM a")
        names = [column[0] for column in cursor.description or ()]
        return {
            str(row[names.index("id")]): dict(zip(names, map(_text, row), strict=True)) for row in cursor.fetchall()
        }


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Pair:
    source: str
    target: str
    rounds: list[list[str]]

    @property
    def words(self) -> list[str]:
        spaces = [
            "public" if url.startswith("postgres") else url.rpartition("/")[2] for url in (self.source, self.target)
        ]
        return ["run", self.source, self.target, "--map", "=".join(spaces), "--tables", f"{spaces[0]}.a"]

    def difference(self) -> str:
        """Empty when the target equals the source: columns by name, and every value."""
        wanted, got = content(self.source), content(self.target)
        wrong = [
            f"{wanted.get(key)} became {got.get(key)}" for key in {*wanted, *got} if wanted.get(key) != got.get(key)
        ]
        return "; ".join(wrong[:3])


Make = Callable[[str], str]


@pytest.fixture
def pair(request: pytest.FixtureRequest, postgres_database: Make, mysql_database: Make) -> Pair:
    names: tuple[str, str] = request.param
    source, target = ((postgres_database if n.startswith("POSTGRES") else mysql_database)(n) for n in names)
    run(source, TABLE, ROWS)
    return Pair(source, target, ENGINES[names[0]])


@pytest.mark.parametrize("pair", [("POSTGRES18", "MARIADB118"), ("MYSQL80", "POSTGRES18")], indirect=True)
@pytest.mark.case("D1", "D2", "D3", "D4", "D5", verdict="=")
def test_what_changed_while_capture_was_down_is_followed(pair: Pair, tmp_path: Path) -> None:
    for statements in [[], *pair.rounds]:
        run(pair.source, *statements)
        ended = tailrace(tmp_path, *pair.words, "--until-current")
        assert ended.code == 0, ended.text
        assert pair.difference() == "", statements


@pytest.mark.parametrize("pair", [("POSTGRES18", "POSTGRES18"), ("MARIADB118", "MARIADB118")], indirect=True)
@pytest.mark.case("D1", "D2", "D3", "D4", "D5", verdict="=")
def test_what_changes_while_capture_runs_is_followed(pair: Pair, tmp_path: Path) -> None:
    ended = tailrace(tmp_path, *pair.words, "--until-current")
    assert ended.code == 0, ended.text
    with started(tmp_path, *pair.words):
        for statements in pair.rounds:
            run(pair.source, *statements)
            wait_until(lambda: pair.difference() == "", 60, f"the target follows {statements}")
