"""Hard cases of a Postgres source, seen in the log by fastavro. Case numbers: the catalogue in docs/cases.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import Event, LogReading, RunningCapture, postgres_source, rebuild, running_capture
from fix_servers import private_server, wait_until

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers


class Bench:
    """A database, a log, and a capture that has caught up whenever `drained` returns."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.log = EmbeddedLog(folder / "log.db", "t")

    def run(self, *statements: str) -> None:
        """Each statement is a transaction of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def transaction(self, *statements: str) -> None:
        with psycopg.connect(self.url) as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def capture(self, **settings: Any) -> Iterator[RunningCapture]:
        source = postgres_source(self.url, self.folder / "spool")
        with running_capture(source, self.log, **settings) as capture:

            def loaded() -> bool:
                capture.check()
                tables = capture.status.tables
                return bool(tables) and all(table.state != "loading" for table in tables.values())

            wait_until(loaded, 60, "the load is done")
            yield capture

    def drain(self) -> None:
        """Capture what the source holds now, then stop."""
        with running_capture(postgres_source(self.url, self.folder / "spool"), self.log, until_current=True) as capture:
            wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")

    def events(self, topic: str = "") -> list[Event]:
        """Change events from the stream, without loaded rows and tombstones."""
        return [
            value
            for name, _, value in LogReading(self.log).events()
            if value is not None and value.get("op") != "r" and (not topic or name == topic)
        ]

    def equal(self, *tables: str) -> None:
        got = rebuild(self.log)
        with psycopg.connect(self.url) as connection:
            for table in tables:
                wanted = sorted(connection.execute(f"SELECT * FROM {table}").fetchall())
                assert sorted(tuple(row.values()) for row in got[f"t.public.{table}"].values()) == wanted


@pytest.fixture(params=["POSTGRES14", "POSTGRES18"])
def bench(request: pytest.FixtureRequest, postgres_database: Any, tmp_path: Path) -> Bench:
    return Bench(str(postgres_database(request.param)), tmp_path)


def test_unchanged_toast_is_named_and_never_null(bench: Bench) -> None:  # A16
    bench.run(
        "CREATE TABLE a (id int PRIMARY KEY, big text, v int)",
        "ALTER TABLE a ALTER big SET STORAGE EXTERNAL",
        "INSERT INTO a VALUES (1, repeat('y', 9000), 1)",
    )
    with bench.capture():
        bench.run("UPDATE a SET v = 2")
    bench.drain()
    (event,) = (e for e in bench.events() if e.get("op") == "u")
    assert event["unavailable_columns"] == ["big"]
    assert event["after"]["big"] == "__debezium_unavailable_value"
    bench.equal("a")


def test_full_identity_takes_the_toasted_value_from_the_old_row(bench: Bench) -> None:  # A17
    bench.run(
        "CREATE TABLE a (id int PRIMARY KEY, big text, v int)",
        "ALTER TABLE a ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL",
        "INSERT INTO a VALUES (1, repeat('y', 9000), 1)",
    )
    with bench.capture():
        bench.run("UPDATE a SET v = 2")
    bench.drain()
    (event,) = (e for e in bench.events() if e.get("op") == "u")
    assert event["unavailable_columns"] is None
    assert event["after"] == {"id": 1, "big": "y" * 9000, "v": 2}


def test_key_change_of_a_toasted_row_is_made_whole(bench: Bench) -> None:  # E18, B1
    bench.run(
        "CREATE TABLE a (id int PRIMARY KEY, big text, n numeric, v int)",
        "ALTER TABLE a ALTER big SET STORAGE EXTERNAL, ALTER n SET STORAGE EXTERNAL",
        "INSERT INTO a VALUES (1, repeat('y', 9000), repeat('9', 9000)::numeric, 1)",
    )
    with bench.capture():
        bench.run("UPDATE a SET id = 2, v = 2")
    bench.drain()
    delete, create = (e for e in bench.events() if "op" in e)
    assert (delete["op"], create["op"]) == ("d", "c")
    assert create["unavailable_columns"] is None
    assert create["after"]["big"] == "y" * 9000
    bench.run("SELECT 1")


def test_unchanged_key_out_of_line_stops_that_table_only(bench: Bench) -> None:  # A19
    bench.run(
        "CREATE TABLE a (k text PRIMARY KEY, v int)",
        "ALTER TABLE a ALTER k SET STORAGE EXTERNAL",
        "CREATE TABLE b (id int PRIMARY KEY)",
        "INSERT INTO a VALUES (repeat('k', 2500), 1)",
    )
    with bench.capture() as capture:
        bench.run("UPDATE a SET v = 2", "INSERT INTO b VALUES (1)")
        wait_until(lambda: any(t.state == "stopped" for t in capture.status.tables.values()), 30, "the table stops")
        stopped = [t for t in capture.status.tables.values() if t.state == "stopped"]
    assert [t.error["code"] for t in stopped] == ["UNCHANGED_KEY"]
    assert stopped[0].error["position"].startswith("lsn:")
    bench.drain()
    bench.equal("b")


def test_rolled_back_parts_never_appear(bench: Bench) -> None:  # C1, C2
    bench.run("CREATE TABLE a (id int PRIMARY KEY)")
    with bench.capture():
        bench.transaction("INSERT INTO a VALUES (1)", "SAVEPOINT s", "INSERT INTO a VALUES (2)", "ROLLBACK TO s")
        bench.transaction("INSERT INTO a VALUES (3)", "ROLLBACK")
    bench.drain()
    bench.equal("a")
    assert len(bench.events()) == 1 + len([e for e in bench.events() if "marker" in e])


def test_truncate_stands_at_its_place(bench: Bench) -> None:  # D7
    bench.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY REFERENCES a)")
    with bench.capture():
        bench.run("INSERT INTO a VALUES (1), (2)", "INSERT INTO b VALUES (1)")
        bench.transaction("INSERT INTO a VALUES (3)", "TRUNCATE a CASCADE", "INSERT INTO a VALUES (4)")
    bench.drain()
    bench.equal("a", "b")


def test_keyless_table_with_full_identity(bench: Bench) -> None:  # B6
    bench.run("CREATE TABLE a (v int)", "ALTER TABLE a REPLICA IDENTITY FULL", "INSERT INTO a VALUES (1), (1), (2)")
    with bench.capture():
        bench.run("DELETE FROM a WHERE ctid = (SELECT min(ctid) FROM a WHERE v = 1)", "UPDATE a SET v = 3 WHERE v = 2")
    bench.drain()
    events = [e for e in bench.events() if "op" in e]
    assert [e["op"] for e in events] == ["d", "u"]
    assert events[0]["before"] == {"v": 1}


def test_columns_added_dropped_renamed_and_retyped_in_the_stream(bench: Bench) -> None:  # D1, D3, D4, D5
    bench.run("CREATE TABLE a (id int PRIMARY KEY, x int, y text)")
    with bench.capture():
        bench.run(
            "INSERT INTO a VALUES (1, 1, 'a')",
            "ALTER TABLE a ADD c int DEFAULT 7",
            "INSERT INTO a VALUES (2, 2, 'b', 8)",
        )
        bench.run("ALTER TABLE a DROP x", "INSERT INTO a VALUES (3, 'c', 9)", "ALTER TABLE a RENAME y TO z")
        bench.run(
            "INSERT INTO a VALUES (4, 'd', 10)", "ALTER TABLE a ALTER c TYPE text", "INSERT INTO a VALUES (5, 'e', 'f')"
        )
    bench.drain()
    afters = [e["after"] for e in bench.events() if e.get("op") == "c"]
    assert afters == [
        {"id": 1, "x": 1, "y": "a"},
        {"id": 2, "x": 2, "y": "b", "c": 8},
        {"id": 3, "y": "c", "c": 9},
        {"id": 4, "z": "d", "c": 10},
        {"id": 5, "z": "e", "c": "f"},
    ]


def test_old_events_are_decoded_by_their_own_schema_after_a_stop(bench: Bench) -> None:  # D3 with capture stopped
    bench.run("CREATE TABLE a (id int PRIMARY KEY, x int)")
    with bench.capture():
        pass
    bench.run(
        "INSERT INTO a VALUES (1, 1)",
        "ALTER TABLE a DROP x",
        "ALTER TABLE a ADD x text",
        "INSERT INTO a VALUES (2, 'b')",
    )
    bench.drain()
    assert [e["after"] for e in bench.events() if e.get("op") == "c"] == [{"id": 1, "x": 1}, {"id": 2, "x": "b"}]


def test_copy_rows_with_one_lsn_all_come_once(bench: Bench) -> None:  # C7
    bench.run("CREATE TABLE a (id int PRIMARY KEY)")
    with bench.capture():
        bench.run("COPY a FROM PROGRAM 'seq 1 1000'")
    bench.drain()
    bench.equal("a")
    assert [e["transaction"]["total_order"] for e in bench.events() if "op" in e] == list(range(1, 1001))


def test_names_of_every_kind(bench: Bench) -> None:  # D15, L1
    bench.run(
        'CREATE TABLE "we""ird; drop table c_old; --" ("%s" int PRIMARY KEY, "{0}`" text)',
        'CREATE TABLE "Größe 😀" ("a-b" int PRIMARY KEY, "a_b" int, "select" int)',
    )
    with bench.capture():
        bench.run(
            'INSERT INTO "we""ird; drop table c_old; --" VALUES (1, $$\'); delete from c_old; -- \\$$)',
            'INSERT INTO "Größe 😀" VALUES (1, 2, 3)',
        )
    bench.drain()
    afters = [list(e["after"].values()) for e in bench.events() if "op" in e]
    assert afters == [[1, "'); delete from c_old; -- \\"], [1, 2, 3]]
    tables = {e["source"]["table"] for e in bench.events() if "op" in e}
    assert tables == {'we"ird; drop table c_old; --', "Größe 😀"}


def test_partitioned_table_comes_under_its_root(bench: Bench) -> None:  # D11, D12
    bench.run(
        "CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)",
        "INSERT INTO p VALUES (1, 1), (2, 1)",
    )
    with bench.capture():
        bench.run("CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)", "UPDATE p SET k = 2 WHERE id = 1")
    bench.drain()
    bench.equal("p")


@pytest.mark.parametrize("version", ["POSTGRES14", "POSTGRES18"])
def test_big_transactions_streamed_before_their_commit(version: str, tmp_path: Path) -> None:  # C4
    with private_server(version, config="logical_decoding_work_mem = '64kB'") as server:
        bench = Bench(server.url, tmp_path)
        bench.run("CREATE TABLE a (id int PRIMARY KEY, w int)")
        with bench.capture(), psycopg.connect(bench.url) as one, psycopg.connect(bench.url) as two:
            for n in range(4):
                one.execute(
                    "INSERT INTO a SELECT g, 1 FROM generate_series(%s::int, %s::int) g",
                    (n * 5000, n * 5000 + 4999),
                )
                two.execute(
                    "INSERT INTO a SELECT g, 2 FROM generate_series(%s::int, %s::int) g",
                    (n * 5000 + 10**6, n * 5000 + 10**6 + 4999),
                )
            one.execute("SAVEPOINT s")
            one.execute("INSERT INTO a SELECT g, 3 FROM generate_series(50000, 60000) g")
            one.execute("ROLLBACK TO s")
            two.rollback()
            one.execute("ALTER TABLE a ADD z int DEFAULT 7")
            one.execute("INSERT INTO a VALUES (70000, 1, 8)")
        bench.drain()
        got = [e for e in bench.events() if "op" in e]
        assert len(got) == 20_001
        assert [e["transaction"]["total_order"] for e in got] == list(range(1, 20_002))
        assert got[-1]["after"] == {"id": 70000, "w": 1, "z": 8}


def _stopped(capture: RunningCapture) -> list[str]:
    return [t.error["code"] for t in capture.status.tables.values() if t.state == "stopped"]


def test_a_stopped_table_is_whole_again_after_the_fix_and_a_start(bench: Bench) -> None:  # A19, rule A7
    bench.run(
        "CREATE TABLE a (k text PRIMARY KEY, v int)",
        "ALTER TABLE a ALTER k SET STORAGE EXTERNAL",
        "INSERT INTO a VALUES (repeat('k', 2500), 1)",
    )
    with bench.capture() as capture:
        bench.run("UPDATE a SET v = 2")
        wait_until(lambda: _stopped(capture) == ["UNCHANGED_KEY"], 30, "the table stops")
    bench.run("INSERT INTO a VALUES ('missed', 3)", "ALTER TABLE a REPLICA IDENTITY FULL")
    with bench.capture():
        bench.run("UPDATE a SET v = 4")
    bench.drain()
    bench.equal("a")


def test_a_table_taken_out_of_the_publication_stops_and_starts_again(bench: Bench) -> None:  # K5
    bench.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    with bench.capture() as capture:
        with psycopg.connect(bench.url, autocommit=True) as connection:
            name = connection.execute("SELECT pubname FROM pg_publication").fetchone()
        assert name is not None
        bench.run(f'ALTER PUBLICATION "{name[0]}" DROP TABLE a', "INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (1)")
        wait_until(lambda: _stopped(capture) == ["PUBLICATION_CHANGED"], 30, "the table stops")
    bench.drain()
    bench.equal("a", "b")


def test_a_table_taken_out_while_capture_is_down_starts_again(bench: Bench) -> None:  # K5
    bench.run("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1), (2)")
    with bench.capture():
        bench.run("INSERT INTO a VALUES (3)")
    with psycopg.connect(bench.url, autocommit=True) as connection:
        name = connection.execute("SELECT pubname FROM pg_publication").fetchone()
    assert name is not None
    bench.run(f'ALTER PUBLICATION "{name[0]}" DROP TABLE a', "DELETE FROM a WHERE id = 1", "INSERT INTO a VALUES (4)")
    bench.drain()
    bench.equal("a")


def test_a_dropped_table_ends_and_a_new_one_of_its_name_is_loaded(bench: Bench) -> None:  # D8
    bench.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    with bench.capture():
        pass
    bench.run("DROP TABLE a", "INSERT INTO b VALUES (1)")
    bench.drain()
    bench.run("CREATE TABLE a (id bigint PRIMARY KEY, v text)", "INSERT INTO a VALUES (7, 'new')")
    bench.drain()
    bench.equal("a", "b")


def test_a_rewrite_under_the_load_is_noticed(bench: Bench) -> None:  # E16
    bench.run(
        "CREATE TABLE a (id int PRIMARY KEY, v int, t text)",
        "INSERT INTO a SELECT g, g, repeat('x', 200) FROM generate_series(1, 20000) g",
    )
    source = postgres_source(bench.url, bench.folder / "spool")
    with running_capture(source, bench.log, chunk_rows=1000, max_rows_per_second=20_000) as capture:

        def half() -> bool:
            capture.check()
            return any(0 < t.chunks_done < t.chunks_total for t in capture.status.tables.values())

        wait_until(half, 30, "some chunks are done")
        bench.run("ALTER TABLE a ALTER v TYPE bigint")
        bench.run("UPDATE a SET v = v + 3000000000 WHERE id % 10 = 0", "DELETE FROM a WHERE id % 7 = 0")
        wait_until(lambda: all(t.state == "streaming" for t in capture.status.tables.values()), 60, "the load is done")
    bench.drain()
    bench.equal("a")


def test_truncate_under_the_load(bench: Bench) -> None:  # E17, rule B9
    bench.run(
        "CREATE TABLE a (id int PRIMARY KEY, t text)",
        "INSERT INTO a SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g",
    )
    source = postgres_source(bench.url, bench.folder / "spool")
    with running_capture(source, bench.log, chunk_rows=1000, max_rows_per_second=20_000) as capture:

        def half() -> bool:
            capture.check()
            return any(0 < t.chunks_done < t.chunks_total for t in capture.status.tables.values())

        wait_until(half, 30, "some chunks are done")
        bench.run("DELETE FROM a WHERE id % 2 = 0", "TRUNCATE a", "INSERT INTO a VALUES (1, 'a'), (2, 'b')")
        wait_until(lambda: all(t.state == "streaming" for t in capture.status.tables.values()), 60, "the load is done")
    bench.drain()
    bench.equal("a")


def test_key_change_of_a_row_that_is_gone_meanwhile(bench: Bench) -> None:  # E18
    bench.run(
        "CREATE TABLE a (id int PRIMARY KEY, big text NOT NULL, other text)",
        "ALTER TABLE a ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL",
        "INSERT INTO a VALUES (1, repeat('y', 9000), repeat('z', 9000)), (2, repeat('y', 9000), repeat('z', 9000))",
    )
    with bench.capture():
        pass
    bench.run(
        "UPDATE a SET id = 3 WHERE id = 1", "UPDATE a SET id = 4 WHERE id = 3", "UPDATE a SET id = 5 WHERE id = 2"
    )
    bench.run("DELETE FROM a WHERE id = 5")
    bench.drain()
    between = [e for e in bench.events() if e.get("op") == "c" and e["after"]["id"] in (3, 5)]
    assert [(e["after"]["big"], e["unavailable_columns"]) for e in between] == [("", ["other"])] * 2
    bench.equal("a")
