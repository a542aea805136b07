"""Rule B12: a key's chunk, as the stream finds it, is the chunk whose query reads the row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import psycopg
import pytest
from fix_capture import LogReading, RunningCapture, postgres_source, running_capture
from fix_servers import wait_until
from fix_versions import EVERY_POSTGRES
from psycopg import sql

from tailrace_capture.postgres import snapshot
from tailrace_capture.postgres.pgoutput import Codec
from tailrace_capture.postgres.plan import build_plan
from tailrace_capture.source import TableFeed
from tailrace_log.embedded import EmbeddedLog
from tailrace_log.frames import Clock, TopicBuffer
from tailrace_schemas.table import TableId

pytestmark = pytest.mark.servers

WORDS = ["a", "A", "b", "B", "ab", "Ab", "a-b", "a b", "ä", "Ä", "z", "Z", "é", "e", "f", "10", "9", "_", "", "ß", "ss"]


def key_values(random: Random) -> dict[str, list[str]]:
    """Type and collation of a key column → texts of values."""
    numbers = [str(random.randint(-(10**6), 10**6)) for _ in range(60)]
    words = WORDS + ["".join(random.choices("aAbBäZz- _é", k=4)) for _ in range(60)]
    return {
        "int": numbers,
        "numeric(12,3)": [f"{n}.{random.randint(0, 999):03}" for n in numbers],
        "float8": [repr(random.uniform(-1e9, 1e9)) for _ in range(60)],
        "uuid": [f"{random.getrandbits(128):032x}" for _ in range(60)],
        "timestamptz": [f"2026-01-01 00:00:00+00:{random.randint(0, 59):02}" for _ in range(60)],
        "bytea": [f"\\x{random.getrandbits(40):010x}" for _ in range(60)],
        "text": words,
        'text COLLATE "C"': words,
        'text COLLATE "POSIX"': words,
        'text COLLATE "en-x-icu"': words,
        'varchar(9) COLLATE "de-x-icu"': words,
        'character(9) COLLATE "en-x-icu"': words,
        'text COLLATE "any case"': words,
        "mood": ["sad", "ok", "happy"],
    }


@pytest.mark.parametrize("version", EVERY_POSTGRES)
@pytest.mark.case("B11", verdict="=")
def test_a_key_belongs_to_the_chunk_that_reads_its_row(
    version: str, seed: int, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = postgres_database(version)
    with psycopg.connect(url, autocommit=True) as connection, ExitStack() as stack:
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
        connection.execute(
            "CREATE COLLATION \"any case\" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        tables = key_values(Random(f"{seed} keys"))
        for n, (kind, texts) in enumerate(tables.items()):
            connection.execute(f"CREATE TABLE t{n} (k {kind}, n int, PRIMARY KEY (k, n))".encode())
            cast = kind.partition(" COLLATE")[0]
            for text in texts:
                statement = f"INSERT INTO t{n} VALUES (%s::text::{cast}, 0) ON CONFLICT DO NOTHING"
                connection.execute(statement.encode(), (text,))
        source = stack.enter_context(closing(postgres_source(url, tmp_path)))
        schemas = {schema.table: schema for schema in source.tables()}
        for n, kind in enumerate(tables):
            schema = schemas[TableId("public", f"t{n}")]
            buffer = TopicBuffer("t", 1, False, Clock())
            feed = TableFeed(schema, "t", 1, 2, buffer)
            every = connection.execute(f"SELECT k::text, n::text FROM t{n} t ORDER BY t.k, t.n".encode()).fetchall()
            bounds = [list(key) for key in every[1::3]]
            order, codec, plan = source.key_order(feed, bounds), Codec(lambda _p, _k: True), build_plan(feed)
            for chunk in range(len(bounds) + 1):
                low = bounds[chunk - 1] if chunk else None
                high = bounds[chunk] if chunk < len(bounds) else None
                where = [*snapshot._bound(schema, ">=", low), *snapshot._bound(schema, "<", high)]
                query = sql.SQL("SELECT k::text, n::text FROM {} WHERE {}").format(
                    snapshot.identifier(schema), sql.SQL(" AND ").join(where)
                )
                read = connection.execute(query).fetchall()
                keys = [codec.key_of(plan, [text.encode() for text in key]) for key in read]
                assert {order.chunk_of(key) for key in keys} == {chunk}, (kind, low, high, read)


@pytest.mark.parametrize("first", ["load", "stream"])
def test_a_key_value_that_avro_cannot_carry_stops_its_table_by_name(
    first: str, postgres_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = postgres_database("POSTGRES18")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE odd (id numeric(5,1) PRIMARY KEY, v int)")
        connection.execute("CREATE TABLE plain (id int PRIMARY KEY)")
        connection.execute("INSERT INTO odd SELECT n, n FROM generate_series(1, 20000) n WHERE n < 9000")
        if first == "load":
            connection.execute("INSERT INTO odd VALUES ('NaN', 1)")
    log = EmbeddedLog(tmp_path / "log.db", "t")
    with running_capture(postgres_source(url, tmp_path / "spool"), log) as capture:
        if first == "stream":
            wait_until(lambda: set(states(capture)) == {"streaming"}, 60, "the load")
        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO odd VALUES ('NaN', 1) ON CONFLICT DO NOTHING")
        wait_until(
            lambda: sorted(states(capture)) == ["stopped", "streaming"], 60, "one table stops, the other goes on"
        )
        error = next(t.error for t in capture.status.tables.values() if t.state == "stopped")
        before = capture.status.transactions
        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO plain VALUES (7)")
        wait_until(lambda: capture.status.transactions > before, 30, "the transaction")
    assert error["code"] == "KEY_VALUE", error
    assert any(topic.endswith("plain") for topic, key, event in LogReading(log).events() if key)


def states(capture: RunningCapture) -> list[str]:
    capture.check()
    return [table.state for table in capture.status.tables.values()]
