"""Sources whose table maps do not name columns: MySQL 5.7, binlog_row_metadata = MINIMAL and MariaDB's NO_LOG.

Every row is read by the description of its own place in the log, or its table stops: a signed number is never taken for
an unsigned one, nor a label for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fix_capture import CrashError, DyingLog, LogReading, RunningCapture, rebuild, running_capture
from fix_mysql import Sql, mysql_source
from fix_servers import private_server, wait_until
from fix_servers import server as shared_server

from tailrace_capture.mysql.layouts import Layouts
from tailrace_capture.source import TableFeed
from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.position import FilePlace
from tailrace_schemas.table import TableSchema

pytestmark = pytest.mark.servers
Fresh = Callable[[], Sql]
_IDS = count(3_000_000)
SERVERS = (
    pytest.param("MYSQL57", id="MYSQL57"),
    pytest.param("MARIADB118 NO_LOG", id="MARIADB118", marks=pytest.mark.slow),
    pytest.param("MYSQL80 MINIMAL", id="MYSQL80", marks=pytest.mark.slow),
    pytest.param("MYSQL9 MINIMAL", id="MYSQL9", marks=pytest.mark.slow),
    pytest.param("MARIADB118 MINIMAL", id="MARIADB118-MINIMAL", marks=pytest.mark.slow),
    pytest.param("MARIADB1011 NO_LOG", id="MARIADB1011", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module", params=SERVERS)
def fresh(request: pytest.FixtureRequest) -> Iterator[Fresh]:
    """A session in a new database of a server that names no columns."""
    name, _, metadata = str(request.param).partition(" ")
    numbers = iter(range(1000))
    with ExitStack() as stack:
        if metadata:
            url = stack.enter_context(private_server(name, config=f"binlog_row_metadata={metadata}")).url
        else:
            url = shared_server(name).url

        def make() -> Sql:
            first = Sql(url)
            database = f"t_meta{next(numbers)}"
            first.run(f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database} CHARSET utf8mb4")
            first.close()
            sql = Sql(url.rpartition("/")[0] + f"/{database}")
            stack.callback(sql.close)
            sql.run("SET NAMES utf8mb4")
            return sql

        yield make


@pytest.fixture
def log(tmp_path: Path) -> EmbeddedLog:
    return EmbeddedLog(tmp_path / "log.db", "t")


def settled(capture: RunningCapture) -> bool:
    """Loaded, and the stream has met the catalogue's description."""
    capture.check()
    tables = capture.status.tables
    return bool(tables) and all(t.state == "streaming" for t in tables.values())


def drain(sql: Sql, log: EmbeddedLog, **settings: Any) -> None:
    # An id of its own: the server takes a while to notice that the reader before has gone.
    source = mysql_source(sql.url, next(_IDS))
    with running_capture(source, log, until_current=True, **settings) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the log is current")


def rows(log: EmbeddedLog) -> list[tuple[Any, ...]]:
    (found,) = rebuild(log).values()
    return sorted(tuple(row.values()) for row in found.values())


def changes(log: EmbeddedLog) -> list[dict[str, Any]]:
    """The rows of streamed events."""
    values = (value for _, _, value in LogReading(log).events() if value is not None and "op" in value)
    return [value["after"] or value["before"] for value in values if value["op"] != "r"]


def stops(log: EmbeddedLog) -> list[str]:
    return [m.data["code"] for r in LogReading(log).records() for m in r.markers if m.kind == "stopped"]


def proven(log: EmbeddedLog) -> bool:
    """No table's note in the log says that its description is still to be met by the stream."""
    notes: dict[str, str] = {}
    for record in LogReading(log).records():
        notes |= {table: load.get("layout", "") for table, load in record.load.items()}
    return bool(notes) and not any(notes.values())


def load(sql: Sql, log: EmbeddedLog) -> None:
    """Until the table streams and its description is sure; then nobody reads."""
    with running_capture(mysql_source(sql.url), log) as capture:
        wait_until(lambda: settled(capture) and proven(log), 30, "the table streams")


@pytest.mark.case("A1", "A5", "A6", "A8", verdict="=")
def test_what_the_log_does_not_say_of_values_comes_from_the_catalogue(fresh: Fresh, log: EmbeddedLog) -> None:
    sql = fresh()
    sql.run("SET NAMES utf8mb4")
    sql.run(
        "CREATE TABLE a(id bigint unsigned PRIMARY KEY, t tinyint, tu tinyint unsigned, s smallint unsigned,"
        " m mediumint unsigned, mi mediumint, i int, iu int unsigned zerofill, d decimal(5,2) unsigned,"
        " e enum('b','a','ü') CHARSET latin1, st set('x','y','z'), l char(9) CHARSET latin1,"
        " g varchar(9) CHARSET gbk, u varchar(40) CHARSET utf8mb4, b blob, bn binary(3), x text CHARSET ucs2, y year)"
    )
    drain(sql, log)
    sql.run(
        "INSERT INTO a VALUES(18446744073709551615, -128, 255, 65535, 16777215, -8388608, -2147483648, 4294967295, 9.5,"
        " 'a', 'x,z', 'é', '中', 'é😀', x'00ff', x'010200', 'ß', 1901)",
        "INSERT INTO a(id, t, e, st) VALUES(9223372036854775808, 127, 'ü', '')",
    )
    drain(sql, log)
    low = (Decimal(9223372036854775808), 127, *[None] * 7, "ü", "", *[None] * 7)
    high: tuple[Any, ...] = (
        Decimal(18446744073709551615),
        -128,
        255,
        65535,
        16777215,
        -8388608,
        -2147483648,
        4294967295,
    )
    high += (Decimal("9.50"), "a", "x,z", "é", "中", "é😀", b"\x00\xff", b"\x01\x02\x00", "ß", 1901)
    assert [tuple(row.values()) for row in changes(log)] == [high, low]
    assert stops(log) == []


@pytest.mark.case("D1", "D4", "D5", verdict="=")
def test_columns_that_come_go_and_change_under_the_stream_are_followed(fresh: Fresh, log: EmbeddedLog) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int, e enum('x','y'), t varchar(20) CHARSET latin1)")
    statements = [
        ("INSERT INTO a VALUES(1, -1, 'x', 'é')", {"id": 1, "v": -1, "e": "x", "t": "é"}),
        ("ALTER TABLE a MODIFY v int unsigned", None),
        ("INSERT INTO a VALUES(2, 4294967295, 'y', 'é')", {"id": 2, "v": 4294967295, "e": "y", "t": "é"}),
        ("ALTER TABLE a ADD w bigint unsigned", None),
        ("INSERT INTO a VALUES(7, 7, 'x', 'é', 7)", {"id": 7, "v": 7, "e": "x", "t": "é", "w": Decimal(7)}),
        ("ALTER TABLE a MODIFY e enum('y','x')", None),
        ("INSERT INTO a VALUES(3, 3, 'y', 'é', 1)", {"id": 3, "v": 3, "e": "y", "t": "é", "w": Decimal(1)}),
        ("ALTER TABLE a MODIFY t varchar(20) CHARSET utf8mb4", None),
        ("INSERT INTO a VALUES(4, 4, 'x', 'é😀', 1)", {"id": 4, "v": 4, "e": "x", "t": "é😀", "w": Decimal(1)}),
        ("ALTER TABLE a CHANGE w z bigint, DROP COLUMN v", None),
        ("INSERT INTO a VALUES(5, 'x', 'ü', -5)", {"id": 5, "e": "x", "t": "ü", "z": -5}),
        ("UPDATE a SET id = 6 WHERE id = 5", {"id": 6, "e": "x", "t": "ü", "z": -5}),
    ]
    with running_capture(mysql_source(sql.url), log) as capture:
        wait_until(lambda: settled(capture), 30, "the load is done")
        for statement, row in statements:
            if row is None:
                wait_until(lambda: settled(capture), 30, "what started again is loaded")
            sql.run(statement)
            if row is not None:
                wanted = row
                wait_until(lambda w=wanted: w in loaded_or_changed(log), 30, f"{statement} arrives")  # type: ignore[misc]
    drain(sql, log)
    assert stops(log) == []
    assert rows(log) == sorted(sql.run("SELECT * FROM a"))


def loaded_or_changed(log: EmbeddedLog) -> list[dict[str, Any]]:
    """Rows as they came, by load or by stream: a table that starts again may show a row in either way."""
    values = (value for _, _, value in LogReading(log).events() if value is not None and "op" in value)
    return [value["after"] for value in values if value["after"]]


@pytest.mark.case("D5", "A6", verdict="=")
def test_rows_on_both_sides_of_a_change_that_nobody_saw_are_read_by_their_own_layout(
    fresh: Fresh, log: EmbeddedLog
) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int, e enum('x','y'))")
    load(sql, log)
    sql.run(
        "INSERT INTO a VALUES(1, -1, 'x')",
        "UPDATE a SET v = 7",
        "ALTER TABLE a MODIFY v int unsigned, MODIFY e enum('y','x')",
        "INSERT INTO a VALUES(2, 4294967295, 'y')",
    )
    drain(sql, log)
    # The change of type loads the table again, the last row with it.
    assert changes(log)[:2] == [{"id": 1, "v": -1, "e": "x"}, {"id": 1, "v": 7, "e": "x"}]
    assert rows(log) == sorted(sql.run("SELECT * FROM a")) == [(1, 7, "x"), (2, 4294967295, "y")]
    assert stops(log) == []


@pytest.mark.case("D1", "D4", verdict="=")
def test_several_changes_that_nobody_saw_are_followed_by_their_words(fresh: Fresh, log: EmbeddedLog) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int unsigned, old int)")
    load(sql, log)
    sql.run(
        "INSERT INTO a VALUES(1, 4294967295, -1)",
        "ALTER TABLE a DROP COLUMN old",
        "INSERT INTO a VALUES(2, 4294967294)",
        "ALTER TABLE a ADD COLUMN e enum('x','y') AFTER id",
        "INSERT INTO a VALUES(3, 'y', 3)",
        "ALTER TABLE a ADD w bigint unsigned, ADD INDEX (v), ALGORITHM=INPLACE",
        "INSERT INTO a VALUES(4, 'x', 4, 18446744073709551615)",
    )
    drain(sql, log)
    assert changes(log) == [
        {"id": 1, "v": 4294967295, "old": -1},
        {"id": 2, "v": 4294967294},
        {"id": 3, "e": "y", "v": 3},
        {"id": 4, "e": "x", "v": 4, "w": Decimal(18446744073709551615)},
    ]
    assert stops(log) == []
    assert rows(log) == sorted(sql.run("SELECT * FROM a"))


@pytest.mark.case("D4", "D8", verdict="=")
def test_a_dropped_column_is_followed_forwards_and_a_table_made_again_by_its_new_description(
    fresh: Fresh, log: EmbeddedLog
) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int)", "CREATE TABLE b(id int PRIMARY KEY, old int, v int unsigned)")
    load(sql, log)
    sql.run("INSERT INTO a VALUES(1, -1)", "INSERT INTO b VALUES(1, -1, 4294967295)")
    if sql.mariadb:
        sql.run("CREATE OR REPLACE TABLE a(id int PRIMARY KEY, v int unsigned)")
    else:
        sql.run("DROP TABLE a", "CREATE TABLE a(id int PRIMARY KEY, v int unsigned)")
    sql.run("INSERT INTO a VALUES(2, 4294967295)")
    sql.run("ALTER TABLE b DROP old", "INSERT INTO b VALUES(2, 4294967294)", "ALTER TABLE b MODIFY v char(10)")
    sql.run("INSERT INTO b VALUES(3, 'three')")
    drain(sql, log)
    assert stops(log) == []
    assert changes(log)[:2] == [{"id": 1, "v": -1}, {"id": 1, "old": -1, "v": 4294967295}]
    assert {"id": 2, "v": 4294967294} in changes(log)
    got = {
        topic.rpartition(".")[2]: [tuple(r.values()) for r in found.values()] for topic, found in rebuild(log).items()
    }
    assert sorted(got["a"]) == [(2, 4294967295)]
    assert sorted(got["b"]) == [(1, "4294967295"), (2, "4294967294"), (3, "three")]


@pytest.mark.case("A6", verdict="STOP(SCHEMA_UNKNOWN)")
def test_labels_that_the_catalogue_cannot_show_stop_the_table_and_are_not_mixed_up(
    fresh: Fresh, log: EmbeddedLog
) -> None:
    sql = fresh()
    sql.run(
        "CREATE TABLE a(id int PRIMARY KEY, e enum('😀','😎') COLLATE utf8mb4_bin)", "INSERT INTO a VALUES(1, '😎')"
    )
    load(sql, log)
    sql.run("INSERT INTO a VALUES(2, '😀')")
    drain(sql, log)
    assert stops(log) == ["SCHEMA_UNKNOWN"]
    drain(sql, log)
    assert rows(log) == [(1, "😎"), (2, "😀")]


@pytest.mark.case("D5", verdict="STOP(SCHEMA_UNKNOWN)")
def test_rows_between_two_changes_of_type_that_nobody_saw_stop_their_table_alone(
    fresh: Fresh, log: EmbeddedLog
) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int)", "CREATE TABLE b(id int PRIMARY KEY)")
    load(sql, log)
    sql.run(
        "INSERT INTO a VALUES(1, -1)",
        "ALTER TABLE a MODIFY v bigint",
        "INSERT INTO a VALUES(2, -2)",
        "ALTER TABLE a MODIFY v varchar(20)",
        "INSERT INTO a VALUES(3, 'three')",
        "INSERT INTO b VALUES(1)",
    )
    drain(sql, log)
    assert stops(log) == ["SCHEMA_UNKNOWN"]
    assert changes(log) == [{"id": 1, "v": -1}, {"id": 1}]
    (stop,) = [m.data for r in LogReading(log).records() for m in r.markers if m.kind == "stopped"]
    assert stop["position"]
    assert "binlog_row_metadata = FULL" in stop["remedy"]
    drain(sql, log)
    got = {topic.rpartition(".")[2]: [*found.values()] for topic, found in rebuild(log).items()}
    assert sorted(got["a"], key=lambda row: row["id"]) == [
        {"id": 1, "v": "-1"}, {"id": 2, "v": "-2"}, {"id": 3, "v": "three"},
    ]  # fmt: skip


@pytest.mark.case("D5", verdict="STOP(SCHEMA_UNKNOWN)")
def test_a_change_that_is_not_in_the_log_stops_the_table_and_no_sign_is_guessed(fresh: Fresh, log: EmbeddedLog) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int)")
    load(sql, log)
    sql.run("INSERT INTO a VALUES(1, -1)")
    drain(sql, log)
    sql.run("SET SESSION sql_log_bin = 0")
    sql.run("UPDATE a SET v = 1", "ALTER TABLE a MODIFY v int unsigned", "SET SESSION sql_log_bin = 1")
    sql.run("INSERT INTO a VALUES(2, 4294967295)")
    drain(sql, log)
    assert stops(log) == ["SCHEMA_UNKNOWN"]
    assert changes(log) == [{"id": 1, "v": -1}]
    drain(sql, log)
    assert rows(log) == [(1, 1), (2, 4294967295)]


def test_a_start_in_the_past_reads_old_rows_by_their_own_layout_or_not_at_all(fresh: Fresh, log: EmbeddedLog) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int unsigned)", "CREATE TABLE b(id int PRIMARY KEY, v int)")
    source = mysql_source(sql.url)
    start = str(source.current_position())
    source.close()
    sql.run("INSERT INTO a VALUES(1, 4294967295)", "INSERT INTO b VALUES(1, -1)")
    sql.run("ALTER TABLE a ADD n int FIRST", "ALTER TABLE b MODIFY v bigint")
    sql.run("INSERT INTO a VALUES(-7, 2, 2)", "INSERT INTO b VALUES(2, -2)")
    drain(sql, log, mode="cdc", start=start)
    assert changes(log) == [{"id": 1, "v": 4294967295}, {"n": -7, "id": 2, "v": 2}]
    stopped = [m.table for r in LogReading(log).records() for m in r.markers if m.kind == "stopped"]
    assert stopped == ["b"]


def lives_through(sql: Sql, log: EmbeddedLog) -> bool:
    try:
        drain(sql, log)
    except CrashError:
        return False
    return True


@pytest.mark.case("C7", "C8", verdict="=")
def test_captures_that_die_between_changes_of_columns_go_on_by_what_the_log_noted(fresh: Fresh, tmp_path: Path) -> None:
    sql = fresh()
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int unsigned, e enum('x','y'))")
    log = DyingLog(tmp_path / "log.db", iter([(2, False), (1, True), (3, True), (1, False), (2, True)] * 2))
    deaths = 0
    for n in range(6):
        sql.run(f"INSERT INTO a(id, v, e) VALUES({n}, {4294967295 - n}, 'y')")
        if n == 2:
            sql.run("ALTER TABLE a ADD w int FIRST", "INSERT INTO a(id, v, e, w) VALUES(100, 4294967295, 'x', -1)")
        if n == 4:
            sql.run("ALTER TABLE a DROP COLUMN w, ADD z int unsigned NULL", "UPDATE a SET z = 4294967295 WHERE id < 3")
        deaths += not lives_through(sql, log)
    while not lives_through(sql, log):
        deaths += 1
    assert deaths >= 3
    assert stops(log) == []
    assert rows(log) == sorted(sql.run("SELECT * FROM a"))


@pytest.mark.case("D5", "D13", verdict="=")
def test_a_table_in_load_of_which_nothing_is_certain_is_loaded_again(
    fresh: Fresh, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = fresh()
    other: list[bool] = []
    sql.run("CREATE TABLE a(id int PRIMARY KEY, v int)")
    sql.run("INSERT INTO a VALUES " + ", ".join(f"({n}, {-n})" for n in range(3000)))
    proven = Layouts._proven

    def late(self: Layouts, now: TableFeed, begun: FilePlace, here: FilePlace) -> TableSchema | None:
        """The stream falls behind, just when it needs to know."""
        if not other:
            other.append(now.buffer.judged)
            sql.run("ALTER TABLE a MODIFY v decimal(9,1)", "INSERT INTO a VALUES(-2, 0.5)")
        return proven(self, now, begun, here)

    monkeypatch.setattr(Layouts, "_proven", late)
    with running_capture(mysql_source(sql.url), log, max_rows_per_second=1500) as capture:
        wait_until(lambda: any(t.chunks_done for t in capture.status.tables.values()), 30, "a chunk is done")
        sql.run("ALTER TABLE a MODIFY v bigint", "INSERT INTO a VALUES(-1, -5)")
        wait_until(lambda: bool(other), 30, "the stream meets the row between the changes")
        wait_until(lambda: settled(capture), 30, "the load is done")
    drain(sql, log)
    assert other == [True]
    assert stops(log) == []
    assert rows(log) == sorted(sql.run("SELECT * FROM a"))


@pytest.mark.parametrize(("name", "less"), [("MYSQL80", "MINIMAL"), ("MARIADB118", "NO_LOG")])
@pytest.mark.case("A8", verdict="=")
def test_metadata_that_is_switched_off_and_on_again_under_the_stream_changes_nothing(
    name: str, less: str, log: EmbeddedLog
) -> None:
    with private_server(name) as server:
        sql = Sql(server.url)
        sql.run("CREATE DATABASE d", "USE d", "SET NAMES utf8mb4")
        sql.run("CREATE TABLE a(id int PRIMARY KEY, v int unsigned, l char(9) CHARSET latin1, e enum('ä','b'), b blob)")
        source = mysql_source(server.url + "d")
        with running_capture(source, log) as capture:
            wait_until(lambda: settled(capture), 30, "the load is done")
            for n, setting in enumerate(["FULL", less, "FULL", less]):
                sql.run(f"SET GLOBAL binlog_row_metadata = {setting}")
                sql.run(f"INSERT INTO a VALUES({n}, {4294967295 - n}, 'é', 'ä', x'00ff')")
                if n == 1:
                    sql.run("ALTER TABLE a MODIFY v bigint")
                    sql.run("INSERT INTO a VALUES(10, -10, 'ü', 'b', 'x')")
            wait_until(lambda: 3 in [row["id"] for row in changes(log)], 30, "the last row arrives")
        assert stops(log) == []
        assert rows(log) == sorted(sql.run("SELECT * FROM a"))
        sql.close()
