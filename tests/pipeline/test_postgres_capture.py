"""Postgres into the embedded log: load and stream rebuilt by fastavro equal the source."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_capture import LogReading, postgres_source, rebuild, running_capture
from fix_servers import wait_until

from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import StopError

pytestmark = pytest.mark.servers
VERSIONS = ["POSTGRES14", "POSTGRES15", "POSTGRES16", "POSTGRES17", "POSTGRES18"]


@pytest.fixture(params=VERSIONS)
def database(request: pytest.FixtureRequest, postgres_database: Any) -> str:
    return str(postgres_database(request.param))


def _write(url: str, stop: threading.Event, seed: int, counts: list[int]) -> None:
    """Inserts, updates, key changes, deletes and two-table transactions until told to stop."""
    draw = random.Random(seed)
    with psycopg.connect(url) as connection:
        while not stop.is_set():
            k = draw.randrange(6000)
            match draw.randrange(6):
                case 0:
                    connection.execute("DELETE FROM a WHERE id = %s", (k,))
                case 1:
                    connection.execute("INSERT INTO a VALUES (%s, 1, 'new') ON CONFLICT DO NOTHING", (k,))
                case 2:
                    connection.execute(
                        "UPDATE a SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM a WHERE id = %s)",
                        (k + 10_000, k, k + 10_000),
                    )
                case 3:
                    connection.execute(
                        "INSERT INTO b VALUES (%s, 'x') ON CONFLICT (k) DO UPDATE SET t = b.t || 'x'", (f"k{k}",)
                    )
                    connection.execute("UPDATE a SET v = v + 1 WHERE id = %s", (k,))
                case 4:
                    connection.execute("DELETE FROM b WHERE k = %s", (f"k{k}",))
                case _:
                    connection.execute("UPDATE a SET v = v + 1 WHERE id BETWEEN %s AND %s", (k, k + 5))
            connection.commit()
            counts[0] += 1


def _rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {t: sorted(connection.execute(f"SELECT * FROM {t}").fetchall()) for t in ("a", "b")}


@pytest.mark.case("E1", "E7", verdict="=")
def test_load_under_writes_rebuilds_the_source(database: str, tmp_path: Path, seed: int) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, v int NOT NULL, t text)")
        connection.execute('CREATE TABLE b (k varchar(20) COLLATE "C" PRIMARY KEY, t text)')
        connection.execute("INSERT INTO a SELECT n, 0, repeat('t', 100) FROM generate_series(1, 5000) n")
        connection.execute("INSERT INTO b SELECT 'k' || n, repeat('u', 50) FROM generate_series(1, 3000) n")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    stop, counts = threading.Event(), [0]
    writer = threading.Thread(target=_write, args=(database, stop, seed, counts))
    writer.start()
    try:
        with running_capture(postgres_source(database, tmp_path / "spool"), log) as capture:

            def loaded() -> bool:
                capture.check()
                return bool(capture.status.tables) and all(
                    t.state == "streaming" for t in capture.status.tables.values()
                )

            wait_until(loaded, 60, "the load is done")
            before = counts[0]
            wait_until(lambda: counts[0] > before + 200, 30, "more writes")
    finally:
        stop.set()
        writer.join()
    with running_capture(postgres_source(database, tmp_path / "spool"), log, until_current=True) as capture:
        wait_until(lambda: not capture.thread.is_alive(), 60, "current")
    source, got = _rows(database), rebuild(log)
    assert sorted(tuple(row.values()) for row in got["t.public.a"].values()) == source["a"]
    assert sorted(tuple(row.values()) for row in got["t.public.b"].values()) == source["b"]


def test_transaction_ids_and_orders_are_consecutive(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, v int)")
        connection.execute("CREATE TABLE b (id int PRIMARY KEY, v int)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with running_capture(postgres_source(database, tmp_path / "spool"), log) as capture:
        wait_until(lambda: capture.status.seq >= 0, 30, "capture runs")
        with psycopg.connect(database) as connection:
            connection.execute("INSERT INTO a VALUES (1, 1), (2, 2)")
            connection.execute("INSERT INTO b VALUES (1, 1)")
            connection.execute("UPDATE a SET id = 3 WHERE id = 1")
            connection.execute("DELETE FROM b")
        wait_until(lambda: capture.status.transactions >= 1, 30, "the transaction")
    events = [v for _, _, v in LogReading(log).events() if v is not None and "op" in v]
    orders = [
        (e["transaction"]["total_order"], e["op"])
        for e in sorted(events, key=lambda e: e["transaction"]["total_order"])
    ]
    assert orders == [(1, "c"), (2, "c"), (3, "c"), (4, "d"), (5, "c"), (6, "d")]
    assert len({e["transaction"]["id"] for e in events}) == 1


def test_full_load_reads_one_moment_without_slot_or_publication(database: str, tmp_path: Path, seed: int) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, v int NOT NULL, t text)")
        connection.execute('CREATE TABLE b (k varchar(20) COLLATE "C" PRIMARY KEY, t text)')
        connection.execute("CREATE TABLE c (n int)")
        connection.execute("INSERT INTO a SELECT n, 0, repeat('t', 100) FROM generate_series(1, 5000) n")
        connection.execute("INSERT INTO b SELECT 'k' || n, '' FROM generate_series(1, 3000) n")
        connection.execute("INSERT INTO c SELECT 1 FROM generate_series(1, 1000)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    stop, counts = threading.Event(), [0]
    writer = threading.Thread(target=_write, args=(database, stop, seed, counts))
    writer.start()
    try:
        with running_capture(postgres_source(database, tmp_path / "spool"), log, mode="full-load") as capture:
            wait_until(lambda: not capture.thread.is_alive(), 60, "the load ends by itself")
    finally:
        stop.set()
        writer.join()
    assert {t.state for t in capture.status.tables.values()} == {"streaming"}
    got = rebuild_loaded(log)
    assert len(got["t.public.c"]) == 1000
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
        ).fetchone()
        assert row == (0,)


def rebuild_loaded(log: EmbeddedLog) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for topic, _, event in LogReading(log).events():
        if event is not None and event.get("op") == "r":
            out.setdefault(topic, []).append(event["after"])
    return out


def test_a_slot_left_by_a_start_that_died_is_known_as_ours(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    source = postgres_source(database, tmp_path / "spool", owner=log.log_id)
    source.prepare(None)
    source.close()
    with running_capture(postgres_source(database, tmp_path / "spool", owner=log.log_id), log) as capture:
        wait_until(lambda: capture.status.seq >= 0, 30, "capture runs")


def test_a_slot_of_somebody_else_is_left_alone(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY)")
    source = postgres_source(database, tmp_path / "spool", owner="one log")
    source.prepare(None)
    source.close()
    other = postgres_source(database, tmp_path / "spool", owner="another log")
    with pytest.raises(StopError) as caught:
        other.prepare(None)
    other.close()
    assert caught.value.code == "SLOT_TAKEN"
