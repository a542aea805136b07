"""Hard cases of a Postgres source whose point is when something happens: slots that went, commits that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from fix_capture import postgres_source, rebuild, running_capture
from fix_servers import private_server, wait_until
from fix_versions import EVERY_POSTGRES

import tailrace_capture.postgres.stream
from tailrace_capture.source import TableFeed, TableMovedError
from tailrace_log.embedded import EmbeddedLog
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_schemas.errors import TailraceError

pytestmark = pytest.mark.servers
VERSIONS = pytest.mark.parametrize("version", EVERY_POSTGRES)


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def drain(url: str, log: EmbeddedLog, folder: Path, act: Callable[[], None] = lambda: None) -> None:
    """Capture until it is current, `act` meanwhile."""
    with running_capture(postgres_source(url, folder / "spool"), log, until_current=True) as capture:
        act()
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


def equal(url: str, log: EmbeddedLog, table: str) -> None:
    with psycopg.connect(url) as connection:
        wanted = sorted(connection.execute(f"SELECT * FROM {table}".encode()).fetchall())
    assert sorted(tuple(row.values()) for row in rebuild(log)[f"t.public.{table}"].values()) == wanted


def refusal(url: str, log: EmbeddedLog, folder: Path) -> str:
    with pytest.raises(TailraceError) as caught:
        drain(url, log, folder)
    assert caught.value.hint
    return caught.value.code


@VERSIONS
@pytest.mark.case("E14", verdict="=")
def test_rows_written_before_their_table_joined_the_publication_arrive(
    version: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, log = postgres_database(version), EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    drain(url, log, tmp_path)
    with psycopg.connect(url) as writer, psycopg.connect(url, autocommit=True) as other:
        row = other.execute("SELECT pubname FROM pg_publication").fetchone()
        assert row is not None
        other.execute(f'ALTER PUBLICATION "{row[0]}" DROP TABLE a'.encode())
        writer.execute("INSERT INTO a VALUES (2)")

        def is_back() -> bool:
            return bool(other.execute("SELECT FROM pg_publication_tables WHERE tablename = 'a'").fetchall())

        def commit_late() -> None:
            wait_until(is_back, 30, "the table is in the publication again")
            other.execute("INSERT INTO b VALUES (1)")
            assert not threading.Event().wait(0.5)
            writer.commit()

        drain(url, log, tmp_path, commit_late)
    equal(url, log, "a")


@pytest.mark.case("E13", verdict="=", on="POSTGRES18")
def test_a_chunk_is_not_read_while_a_streamed_commit_is_invisible(tmp_path: Path) -> None:
    config = "synchronous_standby_names = 'nobody'\nsynchronous_commit = local"
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with private_server("POSTGRES18", config=config) as server, psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("CREATE TABLE a (id int PRIMARY KEY, v int, t text)")
        admin.execute("INSERT INTO a SELECT g, 1, repeat('x', 100) FROM generate_series(1, 4000) g")

        def write() -> None:
            with psycopg.connect(server.url) as writer:
                writer.execute("SET synchronous_commit = on")
                writer.execute("UPDATE a SET v = 2 WHERE id > 3500")
                writer.execute("DELETE FROM a WHERE id = 3999")

        def seen(query: str) -> bool:
            return bool(admin.execute(query.encode()).fetchall())

        source = postgres_source(server.url, tmp_path / "spool")
        with running_capture(source, log, chunk_rows=200, readers=1, max_rows_per_second=4000) as capture:
            wait_until(lambda: any(t.chunks_done for t in capture.status.tables.values()), 30, "the load runs")
            writer = threading.Thread(target=write)
            writer.start()
            wait_until(lambda: seen("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), 20, "it waits")
            sent = "SELECT FROM pg_stat_replication WHERE sent_lsn >= pg_current_wal_flush_lsn()"
            wait_until(lambda: seen(sent), 20, "the commit is in the stream")
            assert any(t.state == "loading" for t in capture.status.tables.values()), "the load was too quick"
            assert not threading.Event().wait(2.0)
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            admin.execute("SELECT pg_reload_conf()")
            writer.join(20)
            wait_until(lambda: all(t.state == "streaming" for t in capture.status.tables.values()), 60, "loaded")
        drain(server.url, log, tmp_path)
        equal(server.url, log, "a")


@VERSIONS
@pytest.mark.case("E16", verdict="=")
def test_a_chunk_of_a_table_rewritten_since_its_snapshot_counts_for_nothing(
    version: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    """The snapshot still describes the table as it was, and shows no row of it (rule B9)."""
    url = postgres_database(version)
    run(url, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1)")
    source = postgres_source(url, tmp_path / "spool")
    (schema,) = source.tables()
    feed = TableFeed(schema, "t", 1, 2, TopicBuffer("t", 1, False, Clock()))
    reader = source.reader()
    reader.begin([feed])
    run(url, "ALTER TABLE a ALTER v TYPE bigint")
    with pytest.raises(TableMovedError):
        assert sum(chunk.rows for chunk in reader.read(feed, None, None, "0:1")) == 0
    reader.close()
    source.close()


@VERSIONS
@pytest.mark.case("G2", verdict="STOP(SLOT_RECREATED)")
def test_a_slot_made_again_by_hand_is_refused(
    version: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, log = postgres_database(version), EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    drain(url, log, tmp_path)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
        ).fetchone()
        assert row is not None
        connection.execute("SELECT pg_drop_replication_slot(%s)", row)
        connection.execute("INSERT INTO a VALUES (2)")
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", row)
        connection.execute("INSERT INTO a VALUES (3)")
    assert refusal(url, log, tmp_path) == "SLOT_RECREATED"


@VERSIONS
@pytest.mark.case("G3", verdict="STOP(SLOT_LOST)")
def test_a_slot_the_server_gave_up_is_refused(version: str, tmp_path: Path) -> None:
    config = "max_slot_wal_keep_size = 1\nmin_wal_size = 32MB\nmax_wal_size = 32MB"
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with private_server(version, config=config) as server:
        run(server.url, "CREATE TABLE a (id int PRIMARY KEY, t text)", "INSERT INTO a VALUES (1)")
        drain(server.url, log, tmp_path)
        for _ in range(4):
            run(server.url, "INSERT INTO a SELECT 2, 'x' ON CONFLICT DO NOTHING", "SELECT pg_switch_wal()")
        run(server.url, "CHECKPOINT")
        assert refusal(server.url, log, tmp_path) == "SLOT_LOST"


@pytest.mark.parametrize("version", ["POSTGRES15", "POSTGRES18"])
@pytest.mark.case("K5", verdict="STOP(PUBLICATION_CHANGED)")
def test_a_row_filter_or_column_list_stops_and_its_remedy_clears_it(
    version: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, log = postgres_database(version), EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1)")
    drain(url, log, tmp_path)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT pubname FROM pg_publication").fetchone()
        assert row is not None
        name = f'"{row[0]}"'
    for limit in ("(id)", "WHERE (id > 5)"):
        run(url, f"ALTER PUBLICATION {name} DROP TABLE a", f"ALTER PUBLICATION {name} ADD TABLE a {limit}")
        run(url, "INSERT INTO a SELECT max(id) + 1, 7 FROM a")
        assert refusal(url, log, tmp_path) == "PUBLICATION_CHANGED"
        run(url, f"ALTER PUBLICATION {name} DROP TABLE a")
        drain(url, log, tmp_path)
        equal(url, log, "a")


@pytest.mark.case("K5", verdict="STOP(PUBLICATION_CHANGED)", on="POSTGRES18")
def test_no_row_is_published_without_a_column_that_the_publication_leaves_out(
    postgres_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailrace_capture.postgres.stream, "LOOK_SECONDS", 3600.0)  # the message itself must tell
    url, log = postgres_database("POSTGRES18"), EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1)")
    with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture:
        wait_until(lambda: [t.state for t in capture.status.tables.values()] == ["streaming"], 30, "it streams")
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute("SELECT pubname FROM pg_publication").fetchone()
        assert row is not None
        run(url, f'ALTER PUBLICATION "{row[0]}" SET TABLE a (id)', "INSERT INTO a VALUES (2, 2)")
        wait_until(lambda: [t.state for t in capture.status.tables.values()] == ["stopped"], 30, "the table stops")
        error = next(iter(capture.status.tables.values())).error
    assert (error["code"], error["column"]) == ("PUBLICATION_CHANGED", "v")
    (rows,) = rebuild(log).values()
    assert [tuple(r.values()) for r in rows.values()] == [(1, 1)]
    run(url, f'ALTER PUBLICATION "{row[0]}" SET TABLE a')
    drain(url, log, tmp_path)
    equal(url, log, "a")


@VERSIONS
@pytest.mark.case("E2", verdict="=")
def test_a_transaction_older_than_the_slot_comes_once(
    version: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, log = postgres_database(version), EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1), (2, 2)")
    with psycopg.connect(url) as writer, psycopg.connect(url, autocommit=True) as other:
        writer.execute("INSERT INTO a VALUES (3, 3)")
        writer.execute("UPDATE a SET v = 9 WHERE id = 1")
        writer.execute("DELETE FROM a WHERE id = 2")

        def slot_is_begun() -> bool:
            query = "SELECT FROM pg_replication_slots WHERE database = current_database()"
            return bool(other.execute(query.encode()).fetchall())

        def commit_late() -> None:
            wait_until(slot_is_begun, 30, "the slot waits for the transaction")
            writer.commit()

        drain(url, log, tmp_path, commit_late)
    equal(url, log, "a")


@VERSIONS
@pytest.mark.case("G4", verdict="=")
def test_the_slot_goes_on_while_only_other_tables_are_written(
    version: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, log = postgres_database(version), EmbeddedLog(tmp_path / "log.db", "t")
    run(url, "CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE other (id int)")
    source = postgres_source(url, tmp_path / "spool", tables=("public.a",))
    with psycopg.connect(url, autocommit=True) as connection, running_capture(source, log) as capture:
        wait_until(lambda: any(t.state == "streaming" for t in capture.status.tables.values()), 30, "it streams")
        connection.execute("INSERT INTO other SELECT generate_series(1, 1000)")
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None

        def has_passed() -> bool:
            query = (
                f"SELECT FROM pg_replication_slots WHERE database = current_database()"
                f" AND confirmed_flush_lsn >= '{row[0]}'"
            )
            return bool(connection.execute(query.encode()).fetchall())

        wait_until(has_passed, 60, "the slot has passed what others wrote")


@VERSIONS
@pytest.mark.parametrize("met", [True, False])
@pytest.mark.case("D10", verdict="=")
def test_an_attached_row_is_loaded_before_a_change_of_it_is_published(
    version: str,
    met: bool,
    postgres_database: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No sink has the value that the update leaves out. `met`: the stream has spoken of the table before."""
    monkeypatch.setattr(tailrace_capture.postgres.stream, "LOOK_SECONDS", 3600.0)
    url, log = postgres_database(version), EmbeddedLog(tmp_path / "log.db", "t")
    run(
        url,
        "CREATE TABLE a (id int, k int, v int, big text, PRIMARY KEY (id, k)) PARTITION BY LIST (k)",
        "CREATE TABLE a_one PARTITION OF a FOR VALUES IN (1)",
        "INSERT INTO a VALUES (1, 1, 1, 'x')",
        "CREATE TABLE a_two (LIKE a INCLUDING ALL)",
        "ALTER TABLE a_two ALTER big SET STORAGE EXTERNAL",
        "INSERT INTO a_two VALUES (2, 2, 1, repeat('y', 9000))",
    )
    with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture:
        wait_until(lambda: [t.state for t in capture.status.tables.values()].count("streaming") == 2, 30, "it streams")
        if met:
            run(url, "INSERT INTO a VALUES (3, 1, 1, 'z')")
        run(url, "ALTER TABLE a ATTACH PARTITION a_two FOR VALUES IN (2)", "UPDATE a SET v = 2 WHERE k = 2")
    drain(url, log, tmp_path)
    equal(url, log, "a")
