"""Hard cases of a Postgres source, seen in the log by fastavro. Case numbers: the catalogue in docs/cases.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import Event, LogReading, RunningCapture, postgres_source, rebuild, running_capture
from fix_servers import private_server, wait_until
from fix_versions import EVERY_POSTGRES

import tailrace_capture.source
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


@pytest.fixture(params=EVERY_POSTGRES)
def bench(request: pytest.FixtureRequest, postgres_database: Any, tmp_path: Path) -> Bench:
    return Bench(str(postgres_database(request.param)), tmp_path)


@pytest.mark.case("A16", verdict="=")
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


@pytest.mark.case("A17", verdict="=")
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


@pytest.mark.case("A19", verdict="=")
def test_full_identity_tells_a_key_out_of_line(bench: Bench) -> None:  # A19 after its fix
    bench.run(
        "CREATE TABLE a (k text PRIMARY KEY, v int)",
        "ALTER TABLE a ALTER k SET STORAGE EXTERNAL, REPLICA IDENTITY FULL",
        "INSERT INTO a VALUES (repeat('k', 2500), 1)",
    )
    with bench.capture():
        bench.run("UPDATE a SET v = 2")
    bench.drain()
    assert [(e["op"], e["after"]) for e in bench.events() if "op" in e] == [("u", {"k": "k" * 2500, "v": 2})]


@pytest.mark.case("E18", "B1", verdict="=")
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


@pytest.mark.case("A19", verdict="=")
def test_a_key_out_of_line_is_taken_from_the_old_key(bench: Bench) -> None:  # A19; sent since 14.2, 15
    bench.run(
        "CREATE TABLE a (k text PRIMARY KEY, v int)",
        "ALTER TABLE a ALTER k SET STORAGE EXTERNAL",
        "INSERT INTO a VALUES (repeat('k', 2500), 1)",
    )
    with bench.capture():
        bench.run("UPDATE a SET v = 2")
    bench.drain()
    assert [(e["op"], e["after"]) for e in bench.events() if "op" in e] == [("u", {"k": "k" * 2500, "v": 2})]


@pytest.mark.case("C1", "C2", verdict="=")
def test_rolled_back_parts_never_appear(bench: Bench) -> None:  # C1, C2
    bench.run("CREATE TABLE a (id int PRIMARY KEY)")
    with bench.capture():
        bench.transaction("INSERT INTO a VALUES (1)", "SAVEPOINT s", "INSERT INTO a VALUES (2)", "ROLLBACK TO s")
        bench.transaction("INSERT INTO a VALUES (3)", "ROLLBACK")
    bench.drain()
    bench.equal("a")
    assert len(bench.events()) == 1 + len([e for e in bench.events() if "marker" in e])


@pytest.mark.case("D7", verdict="=")
def test_truncate_stands_at_its_place(bench: Bench) -> None:  # D7
    bench.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY REFERENCES a)")
    with bench.capture():
        bench.run("INSERT INTO a VALUES (1), (2)", "INSERT INTO b VALUES (1)")
        bench.transaction("INSERT INTO a VALUES (3)", "TRUNCATE a CASCADE", "INSERT INTO a VALUES (4)")
    bench.drain()
    bench.equal("a", "b")


@pytest.mark.case("B6", verdict="=")
def test_keyless_table_with_full_identity(bench: Bench) -> None:  # B6
    bench.run("CREATE TABLE a (v int)", "ALTER TABLE a REPLICA IDENTITY FULL", "INSERT INTO a VALUES (1), (1), (2)")
    with bench.capture():
        bench.run("DELETE FROM a WHERE ctid = (SELECT min(ctid) FROM a WHERE v = 1)", "UPDATE a SET v = 3 WHERE v = 2")
    bench.drain()
    events = [e for e in bench.events() if "op" in e]
    assert [e["op"] for e in events] == ["d", "u"]
    assert events[0]["before"] == {"v": 1}


@pytest.mark.case("D1", "D4", verdict="=")
def test_columns_added_dropped_and_renamed_in_the_stream(bench: Bench) -> None:  # D1, D3, D4
    bench.run("CREATE TABLE a (id int PRIMARY KEY, x int, y text)")
    steps = [
        ("INSERT INTO a VALUES (1, 1, 'a')", {"id": 1, "x": 1, "y": "a"}),
        ("INSERT INTO a VALUES (2, 2, 'b', 8)", {"id": 2, "x": 2, "y": "b", "c": 8}),
        ("INSERT INTO a VALUES (3, 'c', 9)", {"id": 3, "y": "c", "c": 9}),
        ("INSERT INTO a VALUES (4, 'd', 10)", {"id": 4, "z": "d", "c": 10}),
    ]
    changes = ["ALTER TABLE a ADD c int DEFAULT 7", "ALTER TABLE a DROP x", "ALTER TABLE a RENAME y TO z"]
    with bench.capture():
        for n, (insert, _) in enumerate(steps):
            bench.run(insert)
            wait_until(lambda n=n: len(_inserts(bench)) > n, 30, f"row {n + 1} is in the log")  # type: ignore[misc]
            bench.run(*changes[n : n + 1])
    bench.drain()
    assert _inserts(bench) == [after for _, after in steps]
    told = [marker.data for record in LogReading(bench.log).records() for marker in record.markers]
    assert [data.get("defaults") for data in told if "defaults" in data] == [{"c": "7"}]
    assert [data["renamed"] for data in told if data.get("renamed")] == [{"y": "z"}]
    assert not any(data.get("reload") for data in told)


def _inserts(bench: Bench) -> list[Event]:
    return [e["after"] for e in bench.events() if e.get("op") == "c"]


@pytest.mark.case("D1", "D3", "D4", "D5", verdict="=")
def test_a_stream_far_behind_several_changes_of_a_table(bench: Bench) -> None:  # D1, D3, D4, D5
    bench.run("CREATE TABLE a (id int PRIMARY KEY, x int, y text)", "INSERT INTO a VALUES (0, 0, 'z')")
    with bench.capture():
        pass
    bench.run("INSERT INTO a VALUES (1, 1, 'a')", "ALTER TABLE a ADD c int DEFAULT 7")
    bench.run("INSERT INTO a VALUES (2, 2, 'b', 8)", "ALTER TABLE a DROP x", "INSERT INTO a VALUES (3, 'c', 9)")
    bench.run("ALTER TABLE a RENAME y TO z", "INSERT INTO a VALUES (4, 'd', 10)", "ALTER TABLE a ALTER c TYPE text")
    bench.run("INSERT INTO a VALUES (5, 'e', 'f')")
    bench.drain()
    bench.equal("a")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE a ALTER x TYPE int USING x + 1",
        "ALTER TABLE a ALTER x TYPE text USING 'n' || x",
        "ALTER TABLE a DROP x; ALTER TABLE a ADD x int",
        "ALTER TABLE a ADD c float8 DEFAULT random()",
        "ALTER TABLE a ADD c float8 DEFAULT random(); ALTER TABLE a ALTER c DROP DEFAULT",
        "ALTER TABLE a ADD c bytea NOT NULL DEFAULT '\\x0102'",
        "ALTER TABLE a ADD c int; ALTER TABLE a DROP c; ALTER TABLE a ADD c int DEFAULT 3",
    ],
)
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.case("D2", "D3", "D5", verdict="=")
def test_what_a_change_does_to_rows_without_an_event_is_loaded_again(bench: Bench, change: str, down: bool) -> None:
    bench.run("CREATE TABLE a (id int PRIMARY KEY, x int)", "INSERT INTO a SELECT i, i FROM generate_series(1, 9) i")
    with bench.capture():
        bench.run(*([] if down else [change]))
    bench.run(*([change] if down else []))
    bench.drain()
    bench.equal("a")


def test_storage_written_anew_without_a_change_loads_nothing_again(bench: Bench) -> None:
    bench.run("CREATE TABLE a (id int PRIMARY KEY, x int)", "INSERT INTO a VALUES (1, 1)", "ALTER TABLE a ADD c int")
    with bench.capture():
        bench.run("VACUUM FULL a")
        wait_until(lambda: len(_layouts(bench)) == 2, 30, "the new file is noted")
        bench.run("ALTER TABLE a ADD d int")
    bench.drain()
    markers = [marker for record in LogReading(bench.log).records() for marker in record.markers]
    assert [marker.kind for marker in markers] == ["schema", "schema"]
    bench.equal("a")


def _layouts(bench: Bench) -> set[str]:
    return {load["layout"] for record in LogReading(bench.log).records() for load in record.load.values()}


@pytest.mark.case("D3", verdict="=")
def test_old_events_are_decoded_by_their_own_schema_after_a_stop(bench: Bench) -> None:  # D3 with capture stopped
    bench.run("CREATE TABLE a (id int PRIMARY KEY, x int)")
    with bench.capture():
        pass
    bench.run("INSERT INTO a VALUES (1, 1)", "ALTER TABLE a DROP x", "INSERT INTO a VALUES (2)")
    bench.drain()
    assert _inserts(bench) == [{"id": 1, "x": 1}, {"id": 2}]


def test_copy_rows_with_one_lsn_all_come_once(bench: Bench) -> None:  # C7
    bench.run("CREATE TABLE a (id int PRIMARY KEY)")
    with bench.capture():
        bench.run("COPY a FROM PROGRAM 'seq 1 1000'")
    bench.drain()
    bench.equal("a")
    assert [e["transaction"]["total_order"] for e in bench.events() if "op" in e] == list(range(1, 1001))


@pytest.mark.case("D15", verdict="=")
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


@pytest.mark.case("D11", "D12", verdict="=")
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


@pytest.mark.parametrize("version", EVERY_POSTGRES)
@pytest.mark.case("C4", verdict="=")
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


@pytest.mark.case("K5", verdict="STOP(PUBLICATION_CHANGED)")
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


@pytest.mark.case("K5", verdict="STOP(PUBLICATION_CHANGED)")
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


@pytest.mark.case("D8", verdict="=")
def test_a_dropped_table_ends_and_a_new_one_of_its_name_is_loaded(bench: Bench) -> None:  # D8
    bench.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    with bench.capture():
        pass
    bench.run("DROP TABLE a", "INSERT INTO b VALUES (1)")
    bench.drain()
    bench.run("CREATE TABLE a (id bigint PRIMARY KEY, v text)", "INSERT INTO a VALUES (7, 'new')")
    bench.drain()
    bench.equal("a", "b")


@pytest.mark.case("E16", "D13", verdict="=")
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


@pytest.mark.case("E17", verdict="=")
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


@pytest.mark.case("E18", verdict="=")
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


@pytest.mark.parametrize("analysed", [True, False])
def test_chunks_of_rows_with_big_values_have_few_rows(
    analysed: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values kept outside of the row count as well."""
    monkeypatch.setattr(tailrace_capture.source, "CHUNK_BYTES", 1 << 20)
    bench.run(
        "CREATE TABLE a (id int PRIMARY KEY, v text)",
        "ALTER TABLE a ALTER v SET STORAGE EXTERNAL",
        "INSERT INTO a SELECT n, repeat('x', 20000) FROM generate_series(1, 500) n",
        *(["ANALYZE a"] if analysed else []),
    )
    bench.drain()
    bench.equal("a")
    most = [load["rows"] for record in LogReading(bench.log).records() for load in record.load.values()]
    steps = [after - before for before, after in pairwise([0, *most])]
    assert max(steps) <= 60
    assert sum(steps) == 500
