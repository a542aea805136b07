"""A capture of MySQL or MariaDB that dies at any log transaction, big transactions cut in parts, and big values."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_capture import CrashError, DyingLog, LogReading, RunningCapture, rebuild, running_capture
from fix_mysql import Sql, mysql_source
from fix_servers import wait_until
from fix_versions import EVERY_MYSQL_FAMILY

import tailrace_capture.feed
import tailrace_capture.mysql.stream
from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers
FAMILY = pytest.mark.parametrize("name", EVERY_MYSQL_FAMILY)
Fresh = Callable[[str], str]


def run_until_dead(url: str, log: EmbeddedLog, **settings: Any) -> bool:
    """True when the capture reached the end, False when it died."""
    try:
        with running_capture(mysql_source(url), log, until_current=True, **settings) as capture:
            wait_until(lambda: not capture.thread.is_alive(), 120, "the end or a crash")
    except CrashError:
        return False
    return True


def loaded(capture: RunningCapture) -> bool:
    capture.check()
    tables = capture.status.tables
    return bool(tables) and all(t.state == "streaming" for t in tables.values())


def orders(log: EmbeddedLog) -> list[tuple[str, int]]:
    """(transaction, total_order) of every streamed event that counts: abandoned series do not."""
    return [
        (value["transaction"]["id"], value["transaction"]["total_order"])
        for _, _, value in LogReading(log).events()
        if value is not None and value.get("transaction")
    ]


@FAMILY
@pytest.mark.case("C7", "C8", "E6", "E12", verdict="=")
def test_a_capture_that_dies_again_and_again_neither_loses_nor_doubles(
    name: str, mysql_database: Fresh, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailrace_capture.feed, "OPEN_BYTES", 50_000)
    monkeypatch.setattr(tailrace_capture.mysql.stream, "HOLD_BYTES", 40_000)
    draw = random.Random(f"{seed} crash {name}")
    url = mysql_database(name)
    sql = Sql(url)
    sql.run("CREATE TABLE a(id int primary key, v int, t varchar(100))", "CREATE TABLE b(id int primary key, v int)")
    sql.run("INSERT INTO a VALUES " + ",".join(f"({n}, 0, repeat('x', 90))" for n in range(2000)))
    lives = iter([(draw.randrange(1, 7), draw.random() < 0.5) for _ in range(14)])
    log = DyingLog(tmp_path / "log.db", lives)
    stop = threading.Event()

    def write() -> None:
        session = Sql(url)
        while not stop.is_set():
            k = draw.randrange(2000)
            session.run("BEGIN", f"UPDATE a SET v = v + 1 WHERE id BETWEEN {k} AND {k + draw.choice([2, 900])}")
            session.run(f"REPLACE INTO b VALUES({k}, {k})", f"DELETE FROM b WHERE id < {k - 1500}", "COMMIT")
            stop.wait(0.02)
        session.close()

    writer = threading.Thread(target=write)
    writer.start()
    deaths = 0
    try:
        while deaths < 12 and not run_until_dead(url, log, chunk_rows=300):
            deaths += 1
    finally:
        stop.set()
        writer.join()
    while not run_until_dead(url, log, chunk_rows=300):
        deaths += 1
    assert deaths >= 3
    got = {
        topic.rpartition(".")[2]: sorted(tuple(r.values()) for r in rows.values())
        for topic, rows in rebuild(log).items()
    }
    assert got["a"] == sorted(sql.run("SELECT * FROM a"))
    assert got.get("b", []) == sorted(sql.run("SELECT * FROM b"))
    seen = orders(log)
    assert len(seen) == len(set(seen))
    assert any(record.open is not None for record in LogReading(log).records())
    sql.close()


@FAMILY
def test_values_of_more_than_16_mb_are_loaded_and_streamed(name: str, mysql_database: Fresh, tmp_path: Path) -> None:
    url = mysql_database(name)
    sql = Sql(url)
    size = 17_500_000
    sql.run("SET GLOBAL max_allowed_packet = 134217728")
    sql.close()
    sql = Sql(url)
    sql.run("CREATE TABLE a(id int primary key, t longblob)", f"INSERT INTO a VALUES(1, repeat('a', {size})), (2, 'b')")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with running_capture(mysql_source(url), log) as capture:
        wait_until(lambda: loaded(capture), 60, "loaded")
        sql.run(f"INSERT INTO a VALUES(3, repeat('c', {size}))", "UPDATE a SET t = 'd' WHERE id = 1")
        sql.run(f"INSERT INTO a VALUES(4, repeat('e', {(1 << 24) - 50}))")
    assert run_until_dead(url, log)
    (rows,) = rebuild(log).values()
    assert [(row["id"], len(row["t"]), row["t"][:1]) for row in rows.values()] == [
        (1, 1, b"d"), (2, 1, b"b"), (3, size, b"c"), (4, (1 << 24) - 50, b"e"),
    ]  # fmt: skip
    sql.close()


@FAMILY
def test_mode_full_load_reads_one_moment(name: str, mysql_database: Fresh, tmp_path: Path) -> None:
    url = mysql_database(name)
    sql = Sql(url)
    sql.run("CREATE TABLE a(id int primary key, v int)", "CREATE TABLE b(v int)")
    sql.run("INSERT INTO a VALUES " + ",".join(f"({n}, 1)" for n in range(3000)), "INSERT INTO b VALUES(1), (1)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with running_capture(mysql_source(url), log, mode="full-load", chunk_rows=400) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "the load is done")
    events = [value for _, _, value in LogReading(log).events() if value and "op" in value]
    assert {event["op"] for event in events} == {"r"}
    assert sorted(e["after"]["id"] for e in events if "id" in e["after"]) == list(range(3000))
    assert len(events) == 3002
    sql.close()


@pytest.mark.parametrize("name", EVERY_MYSQL_FAMILY[1:])  # the library, too, needs the columns of 5.7 from elsewhere
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the library's own calls
def test_the_stream_agrees_with_python_mysql_replication(name: str, mysql_database: Fresh, tmp_path: Path) -> None:
    """A second opinion on plain rows of plain types."""
    from pymysqlreplication import BinLogStreamReader  # type: ignore[import-untyped]
    from pymysqlreplication.row_event import (  # type: ignore[import-untyped]
        DeleteRowsEvent,
        UpdateRowsEvent,
        WriteRowsEvent,
    )

    url = mysql_database(name)
    sql = Sql(url)
    sql.run("CREATE TABLE a(id int primary key, b bigint unsigned, d decimal(20,5), y year, n double)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    start = sql.place()
    with running_capture(mysql_source(url), log) as capture:
        wait_until(lambda: loaded(capture), 60, "loaded")
        sql.run("INSERT INTO a VALUES(1, 18446744073709551615, -1.5, 1999, 0.1), (2, 0, NULL, NULL, -2e300)")
        sql.run("UPDATE a SET b = 7, d = 123456789012345.67891 WHERE id = 2", "DELETE FROM a WHERE id = 1")
    assert run_until_dead(url, log)
    ours = [
        (value["op"], value["before"], value["after"])
        for _, _, value in LogReading(log).events()
        if value is not None and "op" in value
    ]
    address = sql.address
    reader = BinLogStreamReader(
        connection_settings={"host": address.host, "port": address.port, "user": "cdc", "password": "pw"},
        server_id=3_999_999_999,
        log_file=start.file,
        log_pos=start.pos,
        resume_stream=True,
        only_schemas=[sql.database],
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    )
    theirs: list[tuple[str, Any, Any]] = []
    for event in reader:
        for row in event.rows:
            if isinstance(event, UpdateRowsEvent):
                theirs.append(("u", row["before_values"], row["after_values"]))
            else:
                values = row["values"]
                theirs.append(("c", None, values) if isinstance(event, WriteRowsEvent) else ("d", values, None))
    reader.close()
    sql.close()
    assert ours == theirs
