"""Tables that appear while capture runs: made, copied, renamed into the selection, made again. The log, rebuilt by
fastavro, equals the source, whoever writes meanwhile and however often capture dies."""

from __future__ import annotations

import itertools
import random
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import CrashError, DyingLog, LogReading, RunningCapture, postgres_source, rebuild, running_capture
from fix_mysql import Sql, mysql_source
from fix_servers import wait_until

import tailrace_capture.mysql.stream
import tailrace_capture.postgres.stream
from tailrace_capture.source import Source
from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers


def _sites(*quick: str, slow: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    names = [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]
    return pytest.mark.parametrize("site", names, indirect=True)


ENGINES = _sites(
    "POSTGRES18",
    "MARIADB118",
    slow=("POSTGRES14", "POSTGRES15", "POSTGRES16", "POSTGRES17", "MYSQL80", "MYSQL9", "MARIADB1011"),
)
POSTGRES = _sites("POSTGRES18", slow=("POSTGRES14",))
FAMILY = _sites("MYSQL80", slow=("MARIADB118",))
Rows = dict[str, list[tuple[Any, ...]]]


class Site:
    """A source database of either family."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.is_postgres = url.startswith("postgres")
        self._ids = itertools.count(zlib.crc32(url.encode()) % 1_000_000 * 1000)

    def source(self) -> Source:
        if self.is_postgres:
            return postgres_source(self.url, self.folder / "spool")
        return mysql_source(self.url, next(self._ids))  # the server notices late that the one before is gone

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Each statement is a transaction of its own; gives the rows of the last."""
        if not self.is_postgres:
            session = Sql(self.url)
            try:
                return list(session.run(*statements) or ())
            finally:
                session.close()
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> Rows:
        schema = "'public'" if self.is_postgres else "DATABASE()"
        names = self.run(f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}")
        return {name: sorted(self.run(f"SELECT * FROM {name}")) for (name,) in names}


@pytest.fixture
def site(
    request: pytest.FixtureRequest,
    postgres_database: Callable[[str], str],
    mysql_database: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """The catalogue is looked at more often than usual."""
    monkeypatch.setattr(tailrace_capture.postgres.stream, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(tailrace_capture.postgres.stream, "FEEDBACK_SECONDS", 0.1)
    monkeypatch.setattr(tailrace_capture.mysql.stream, "NEW_TABLES_SECONDS", 0.5)
    name = str(request.param)
    made = (postgres_database if name.startswith("POSTGRES") else mysql_database)(name)
    out = Site(made, tmp_path)
    out.run("CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)")
    return out


def logged(log: EmbeddedLog) -> Rows:
    """Tables that hold rows in the log, without those that are gone at the source."""
    return {
        topic.rpartition(".")[2]: sorted(tuple(row.values()) for row in rows.values())
        for topic, rows in rebuild(log).items()
    }


def differences(site: Site, log: EmbeddedLog) -> dict[str, Any]:
    wanted, got = site.tables(), logged(log)
    return {name: (rows, got.get(name)) for name, rows in wanted.items() if (got.get(name) or []) != rows}


@contextmanager
def capturing(site: Site, log: EmbeddedLog, **settings: Any) -> Iterator[RunningCapture]:
    with running_capture(site.source(), log, **settings) as capture:
        wait_until(lambda: state(capture, "a") == "streaming", 60, "the load is done")
        yield capture


def state(capture: RunningCapture, name: str) -> str:
    capture.check()
    return next((shown.state for table, shown in capture.status.tables.items() if table.name == name), "")


def error(capture: RunningCapture, name: str) -> dict[str, str]:
    capture.check()
    return next((shown.error for table, shown in capture.status.tables.items() if table.name == name), {})


def finish(site: Site, log: EmbeddedLog) -> None:
    with running_capture(site.source(), log, until_current=True) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


@ENGINES
@pytest.mark.case("D17", "E11", verdict="=")
def test_a_table_made_while_capture_runs_is_loaded_and_then_followed(site: Site) -> None:
    log = EmbeddedLog(site.folder / "log.db", "t")
    primary = ["ALTER TABLE copied ADD PRIMARY KEY (id)"] if site.is_postgres else []
    with capturing(site, log) as capture:
        site.run("CREATE TABLE made (id int PRIMARY KEY, v int)", "INSERT INTO made VALUES (1, 1), (2, 2)")
        key = "" if site.is_postgres else "(PRIMARY KEY (id))"
        site.run(f"CREATE TABLE copied {key} AS SELECT id, v FROM a", *primary)
        wait_until(lambda: {state(capture, n) for n in ("made", "copied")} == {"streaming"}, 30, "both are loaded")
        site.run(
            "UPDATE made SET v = 9 WHERE id = 1", "DELETE FROM copied WHERE id = 2", "INSERT INTO made VALUES (3, 3)"
        )
    finish(site, log)
    assert differences(site, log) == {}
    streamed = [
        v for _, _, v in LogReading(log).events() if v and v.get("op") in ("u", "d") and v["source"]["table"] != "a"
    ]
    assert [event["op"] for event in streamed] == ["u", "d"]


@ENGINES
@pytest.mark.case("D17", verdict="=")
def test_tables_made_under_writes_are_whole_however_often_capture_dies(site: Site, seed: int) -> None:
    draw = random.Random(f"{seed} new tables")
    log = DyingLog(site.folder / "log.db", iter([(draw.randrange(2, 7), draw.random() < 0.5) for _ in range(10)]))

    deaths, done = 0, False

    def write() -> None:
        for n in itertools.count():
            if n >= 40 and deaths > 3:
                return
            name = f"n{n % 6}"
            if n < 6:
                site.run(f"CREATE TABLE {name} (id int PRIMARY KEY, v int)")
            site.run(
                *(f"INSERT INTO {name} VALUES ({100 * n + i}, {i})" for i in range(3)),
                f"UPDATE {name} SET v = v + 1",
                f"UPDATE {name} SET id = -id WHERE id % 100 = 1 AND id > 0",
                f"DELETE FROM {name} WHERE id % 100 = 2",
            )

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive() or not done:
        done = not writer.is_alive()
        try:
            with running_capture(site.source(), log, chunk_rows=20, until_current=done) as capture:
                threads = [capture.thread] if done else [capture.thread, writer]
                wait_until(lambda: not all(t.is_alive() for t in threads), 60, "the writer ends, or capture does")  # noqa: B023
        except CrashError:
            deaths, done = deaths + 1, False
    assert differences(site, log) == {}


@ENGINES
@pytest.mark.case("D8", "D17", verdict="=")
def test_a_table_dropped_and_made_again_while_capture_runs_is_loaded_anew(site: Site) -> None:
    log = EmbeddedLog(site.folder / "log.db", "t")
    site.run("CREATE TABLE again (id int PRIMARY KEY, v int)", "INSERT INTO again VALUES (1, 1), (2, 2)")
    with capturing(site, log) as capture:
        wait_until(lambda: state(capture, "again") == "streaming", 30, "it is loaded")
        site.run("DROP TABLE again")
        wait_until(lambda: error(capture, "again").get("code") == "TABLE_DROPPED", 30, "it is gone")
        site.run("CREATE TABLE again (id bigint PRIMARY KEY, t varchar(9))", "INSERT INTO again VALUES (2, 'two')")
        wait_until(lambda: state(capture, "again") == "streaming", 30, "it is loaded again")
        site.run("DROP TABLE again", "CREATE TABLE again (id int PRIMARY KEY)", "INSERT INTO again VALUES (7)")
        wait_until(lambda: differences(site, log) == {}, 30, "and once more")
    finish(site, log)
    assert differences(site, log) == {}


@ENGINES
@pytest.mark.case("D9", verdict="=")
def test_tables_exchanged_by_rename_while_capture_runs_are_loaded_anew(site: Site) -> None:
    log = EmbeddedLog(site.folder / "log.db", "t")
    site.run("CREATE TABLE b (id int PRIMARY KEY, v int)", "INSERT INTO b VALUES (8, 8), (9, 9)")
    with capturing(site, log) as capture:
        wait_until(lambda: state(capture, "b") == "streaming", 30, "both are loaded")
        if site.is_postgres:
            with psycopg.connect(site.url) as connection:
                for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
                    connection.execute(f"ALTER TABLE {old} RENAME TO {new}".encode())
        else:
            site.run("RENAME TABLE a TO c, b TO a, c TO b")
        wait_until(lambda: differences(site, log) == {}, 30, "the log follows")
        site.run("INSERT INTO a VALUES (10, 10)", "UPDATE b SET v = 0")
    finish(site, log)
    assert differences(site, log) == {}


@POSTGRES
@pytest.mark.case("D17", "E14", verdict="=")
def test_a_row_written_before_the_table_joined_and_committed_long_after_is_there(site: Site) -> None:
    """Rule B4: the transaction is neither in a snapshot taken meanwhile nor wholly in the stream."""
    log = EmbeddedLog(site.folder / "log.db", "t")
    with capturing(site, log) as capture, psycopg.connect(site.url) as slow:
        site.run("CREATE TABLE made (id int PRIMARY KEY, v int)")
        slow.execute("INSERT INTO made VALUES (1, 1)")
        wait_until(lambda: state(capture, "made") == "loading", 30, "the table is taken up")
        slow.execute("INSERT INTO made VALUES (3, 3)")
        slow.execute("UPDATE made SET v = 5 WHERE id = 1")
        assert state(capture, "made") == "loading"
        slow.commit()
        site.run("INSERT INTO made VALUES (2, 2)")  # lost by servers that keep to what they noted for the other
        wait_until(lambda: state(capture, "made") == "streaming", 30, "it is loaded")
        site.run("INSERT INTO made VALUES (4, 4)")
    finish(site, log)
    assert differences(site, log) == {}


@POSTGRES
@pytest.mark.case("D17", verdict="=")
def test_a_new_table_that_may_not_be_published_is_named_with_what_to_run(site: Site) -> None:
    log = EmbeddedLog(site.folder / "log.db", "t")
    with capturing(site, log) as capture:
        site.run("CREATE TABLE keyless (id int, v int)", "INSERT INTO keyless VALUES (1, 1)")
        wait_until(lambda: error(capture, "keyless").get("code") == "REPLICA_IDENTITY", 30, "the status names it")
        site.run("UPDATE keyless SET v = 2")  # which a publication would have forbidden
        remedy = error(capture, "keyless")["remedy"]
        assert remedy == 'ALTER TABLE "public"."keyless" REPLICA IDENTITY FULL'
        site.run(remedy)
        wait_until(lambda: state(capture, "keyless") == "streaming", 30, "it is loaded")
        site.run("UPDATE keyless SET v = 3")
    finish(site, log)
    assert differences(site, log) == {}


@POSTGRES
@pytest.mark.case("D17", verdict="=")
def test_a_publication_of_somebody_else_is_left_alone_and_the_statement_is_said(site: Site) -> None:
    name = "tailrace_" + site.url.rpartition("/")[2].partition("?")[0]
    role = "r_" + name.rpartition("_")[2]
    site.run(
        f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'pw'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role}",
        f"CREATE PUBLICATION {name} FOR TABLE a WITH (publish_via_partition_root = true)",
    )
    log = EmbeddedLog(site.folder / "log.db", "t")
    other = Site(as_role(site.url, role), site.folder)
    try:
        with capturing(other, log) as capture:
            site.run("CREATE TABLE made (id int PRIMARY KEY, v int)", "INSERT INTO made VALUES (1, 1)")
            wait_until(lambda: error(capture, "made").get("code") == "PRIVILEGE", 30, "the status names it")
            statement = f'ALTER PUBLICATION "{name}" ADD TABLE "public"."made"'
            assert error(capture, "made")["remedy"].endswith(statement)
            site.run(statement)
            wait_until(lambda: state(capture, "made") == "streaming", 30, "it is loaded")
            site.run("UPDATE made SET v = 3")
        finish(other, log)
        assert differences(site, log) == {}
    finally:
        site.run(f"DROP OWNED BY {role}")


def as_role(url: str, role: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{role}:pw@{rest.rpartition('@')[2]}"


@FAMILY
@pytest.mark.case("D6", verdict="=")
def test_two_ghost_table_runs_under_writes(site: Site, seed: int) -> None:
    """As pt-osc does it: rows copied in pieces while triggers replay changes, then both tables renamed at once."""
    draw = random.Random(f"{seed} ghost")
    log = EmbeddedLog(site.folder / "log.db", "t")
    site.run("CREATE TABLE t (id int PRIMARY KEY, v int)", *(f"INSERT INTO t VALUES ({n}, 0)" for n in range(60)))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            k = draw.randrange(90)
            site.run(f"INSERT INTO t (id, v) VALUES ({k}, 1) ON DUPLICATE KEY UPDATE v = v + 1")
            site.run(f"DELETE FROM t WHERE id = {draw.randrange(90)}")

    writer = threading.Thread(target=write)
    with capturing(site, log, chunk_rows=20):
        writer.start()
        try:
            for n, change in enumerate(("ADD c int NOT NULL DEFAULT 7", "MODIFY v bigint")):
                ghost_run(site, change, f"_t_del{n}")
        finally:
            stop.set()
            writer.join()
    finish(site, log)
    assert differences(site, log) == {}


def ghost_run(site: Site, change: str, left: str) -> None:
    session = Sql(site.url)
    try:
        session.run("CREATE TABLE _t_new LIKE t", f"ALTER TABLE _t_new {change}")
        names = [str(row[0]) for row in session.run("SHOW COLUMNS FROM t")]
        columns, values = ", ".join(names), ", ".join(f"NEW.{name}" for name in names)
        for event in ("INSERT", "UPDATE"):
            replay = f"REPLACE INTO _t_new ({columns}) VALUES ({values})"
            session.run(f"CREATE TRIGGER on_{event.lower()} AFTER {event} ON t FOR EACH ROW {replay}")
        session.run("CREATE TRIGGER on_delete AFTER DELETE ON t FOR EACH ROW DELETE FROM _t_new WHERE id = OLD.id")
        for low in range(0, 90, 30):
            piece = f"SELECT {columns} FROM t WHERE id >= {low} AND id < {low + 30} LOCK IN SHARE MODE"
            session.run(f"INSERT IGNORE INTO _t_new ({columns}) {piece}")
        session.run(f"RENAME TABLE t TO {left}, _t_new TO t")
        session.run(*(f"DROP TRIGGER on_{event}" for event in ("insert", "update", "delete")))
    finally:
        session.close()
