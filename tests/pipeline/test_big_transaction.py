"""Transactions of millions of rows go through processes of bounded memory, values of tens of megabytes arrive."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_command import started, tailrace
from fix_mysql import Sql
from fix_servers import POSTGRES_NAMES, fresh_mysql_database, fresh_postgres_database, wait_until

pytestmark = pytest.mark.servers
MB = 1 << 20
SINK_LIMIT = 350 * MB
STEP = 10_000
BIG = 33 << 20  # bytes of one value


def fresh(name: str) -> AbstractContextManager[str]:
    return fresh_postgres_database(name) if name in POSTGRES_NAMES else fresh_mysql_database(name)


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """All in one session, committed at its end; rows of the last one."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
    sql = Sql(url)
    try:
        return sql.run("BEGIN", *statements[:-1], statements[-1])
    finally:
        sql.run("COMMIT")
        sql.close()


def create(url: str) -> None:
    run(url, "CREATE TABLE a (id bigint PRIMARY KEY, v int, t varchar(4000), at timestamp(6) NULL)")
    if not url.startswith("postgresql"):
        numbers = ", ".join(f"({g})" for g in range(STEP))
        run(url, "CREATE TABLE n (g int PRIMARY KEY)", f"INSERT INTO n VALUES {numbers}")


def write_in_one_transaction(url: str, rows: int, width: int) -> None:
    """Rows with a text of 64 * `width` bytes, and every tenth of them once more."""
    if url.startswith("postgresql"):
        insert = [f"INSERT INTO a SELECT g, mod(g, 1000), repeat(md5(g::text), {2 * width}), now()"]
        insert[0] += f" FROM generate_series(1, {rows}) g"
    else:
        insert = [
            f"INSERT INTO a SELECT g + {n}, mod(g, 1000), repeat(sha2(g + {n}, 256), {width}), now(6) FROM n"
            for n in range(0, rows, STEP)
        ]
    run(url, *insert, "UPDATE a SET v = -1 WHERE mod(id, 10) = 0")


def checksum(url: str) -> list[tuple[Any, ...]]:
    """Number of rows and a sum over their texts, made by the database."""
    if url.startswith("postgresql"):
        return run(url, "SELECT count(*), sum(hashtextextended(a::text, 0)::numeric) FROM a")
    return run(url, "SELECT count(*), sum(crc32(concat_ws(',', id, v, t, at))) FROM a")


def peak_of(folder: Path, *words: str, seconds: float) -> int:
    """Run a command to its good end; bytes of its largest resident set."""
    highest = 0
    with started(folder, *words) as command:
        status = Path(f"/proc/{command.pid}/status")

        def has_ended() -> bool:
            nonlocal highest
            if found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text()):
                highest = max(highest, int(found[1]) * 1024)
            return not command.is_running

        wait_until(has_ended, seconds, f"{words[0]} ends")
        assert command.end().code == 0
    return highest


OTHERS = ("MYSQL57", "MYSQL9", "MARIADB1011", "MARIADB118", "POSTGRES14", "POSTGRES15", "POSTGRES16", "POSTGRES17")


def target_of(source: str) -> str:
    """Of the same kind, where the table has the same name."""
    return "POSTGRES18" if source.startswith("POSTGRES") else "MARIADB118"


LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("source", "target", "rows", "width", "capture_limit"),
    [
        pytest.param("MYSQL80", "MARIADB118", 60_000, 40, 150 * MB, marks=LONG),
        *(pytest.param(name, target_of(name), 60_000, 40, 150 * MB, marks=LONG) for name in OTHERS),
        pytest.param("MYSQL80", "MARIADB118", 5_000_000, 2, 200 * MB, marks=LONG),
        pytest.param("POSTGRES18", "POSTGRES18", 5_000_000, 2, 200 * MB, marks=LONG),
    ],
)
@pytest.mark.case("C3", verdict="=")
def test_a_transaction_of_any_size_takes_little_memory(
    source: str, target: str, rows: int, width: int, capture_limit: int, tmp_path: Path
) -> None:
    with fresh(source) as left, fresh(target) as right:
        words = (left, right, "--name", "p", "--until-current")
        create(left)
        assert tailrace(tmp_path, "run", *words).code == 0
        write_in_one_transaction(left, rows, width)
        run(left, "CREATE TABLE late (id int PRIMARY KEY)", "INSERT INTO late VALUES (1)")  # is loaded beside it
        peaks = [peak_of(tmp_path, role, *words, seconds=1500) for role in ("capture", "sink")]
        assert checksum(right) == checksum(left)
    print(f"capture {peaks[0] // MB} MB, sink {peaks[1] // MB} MB")
    assert peaks[0] < capture_limit
    assert peaks[1] < SINK_LIMIT


@pytest.mark.parametrize(
    ("source", "target"),
    [(name, target_of(name)) for name in (*OTHERS, "POSTGRES18", "MYSQL80")],
)
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.case("A21", verdict="=")
def test_values_of_tens_of_megabytes_arrive(source: str, target: str, tmp_path: Path) -> None:
    postgres = source in POSTGRES_NAMES
    binary = "bytea" if postgres else "longblob"
    with fresh(source) as left, fresh(target) as right:
        if not postgres:
            for url in (left, right):
                run(url, "SET GLOBAL max_allowed_packet = 268435456")
        words = (left, right, "--name", "p", "--until-current")
        run(left, f"CREATE TABLE a (id int PRIMARY KEY, v int, b {binary}, t {'text' if postgres else 'longtext'})")
        run(left, f"INSERT INTO a VALUES (1, 1, NULL, repeat('é', {BIG // 2}))")
        assert tailrace(tmp_path, "run", *words, timeout=120).code == 0
        blob = f"decode(repeat('00ff27', {BIG // 3}), 'hex')" if postgres else f"repeat(x'00ff27', {BIG // 3})"
        run(left, f"INSERT INTO a VALUES (2, 1, {blob}, 'x')", "UPDATE a SET v = 2")
        assert tailrace(tmp_path, "run", *words, timeout=120).code == 0
        hashed = "md5(b), md5(t)" if postgres else "sha2(b, 256), sha2(t, 256)"
        query = f"SELECT id, v, length(b), length(t), {hashed} FROM a ORDER BY id"
        assert run(right, query) == run(left, query)
        assert len(run(right, query)) == 2
