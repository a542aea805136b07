"""Chunks of a key space: what is read for a chunk and what is judged to belong to it are the same rows (rule B12)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from fix_mysql import Sql, decoder_of, mysql_source
from fix_servers import MYSQL_FAMILY

from tailrace_capture.mysql.keys import condition
from tailrace_schemas.wire import frames

pytestmark = pytest.mark.servers
SHAPES = ("PRIMARY KEY(k)", "n int DEFAULT 0, PRIMARY KEY(k, n)", "n int DEFAULT 0, PRIMARY KEY(n, k)")


def texts(random: Random) -> list[str]:
    alphabet = "aAbBäÄéßzZ_ 0'\\\u00ff"
    return [
        "'" + "".join(random.choices(alphabet, k=3)).replace("\\", "\\\\").replace("'", "''") + "'" for _ in range(60)
    ]


def key_values(random: Random, mariadb: bool) -> dict[str, list[str]]:
    numbers = [str(random.randrange(-(2**31), 2**31)) for _ in range(60)]
    moments = [
        f"'20{random.randrange(10, 38)}-{random.randrange(1, 13):02}-{random.randrange(1, 29):02} 0{random.randrange(10)}:30:00.{random.randrange(1000):03}'"
        for _ in range(60)
    ]
    out = {
        "int": numbers,
        "bigint unsigned": [str(random.getrandbits(64)) for _ in range(60)],
        "decimal(30,5)": [f"{n}.{random.randrange(10**5):05}" for n in numbers],
        "varchar(9) character set utf8mb4 collate utf8mb4_general_ci": texts(random),
        "varchar(9) character set latin1": [t for t in texts(random) if "\\" not in t],
        "char(9) character set utf8mb4 collate utf8mb4_bin": texts(random),
        "date": [m[:11] + "'" for m in moments],
        "datetime(3)": moments,
        "timestamp(2)": moments,
        "time(2)": [
            f"'{random.choice(['-', ''])}{random.randrange(800)}:10:{random.randrange(60):02}.{random.randrange(99):02}'"
            for _ in range(60)
        ],
        "binary(4)": [f"x'{random.randbytes(4).hex()}'" for _ in range(60)],
        "varbinary(9)": [f"x'{random.randbytes(random.randrange(9)).hex()}'" for _ in range(60)],
        "bit(9)": [str(n) for n in range(0, 512, 9)],
        "year": [str(n) for n in range(1901, 2000)],
        "double": [repr(random.uniform(-1e5, 1e5)) for _ in range(60)],
        "float": [repr(random.uniform(-1e5, 1e5)) for _ in range(60)],
        "enum('z','y','b','a','it''s')": ["'z'", "'y'", "'b'", "'a'", "'it''s'"],
        "set('z','y','b','a')": [str(n) for n in range(16)],
    }
    if mariadb:
        out["uuid"] = [f"'{random.randbytes(16).hex()}'" for _ in range(60)]
        out["inet6"] = [f"CAST(x'{random.randbytes(16).hex()}' AS INET6)" for _ in range(60)]
    return out


@pytest.mark.parametrize("name", MYSQL_FAMILY)
@pytest.mark.case("B9", "B11", verdict="=")
def test_a_key_belongs_to_the_chunk_that_reads_it(name: str, seed: int, mysql_database: Callable[[str], str]) -> None:
    random = Random(f"{seed} keys {name}")
    url = mysql_database(name)
    sql = Sql(url)
    source = mysql_source(url)
    for number, (type_, values) in enumerate(key_values(random, sql.mariadb).items()):
        for which, shape in enumerate(SHAPES):
            table = f"t{number}_{which}"
            sql.run(f"CREATE TABLE {table}(k {type_} NOT NULL, {shape})")
            sql.run(f"INSERT IGNORE INTO {table}(k) VALUES {','.join(f'({v})' for v in values)}")
            if "n" in shape.split()[0]:
                sql.run(f"INSERT IGNORE INTO {table}(k, n) SELECT k, 1 FROM {table} LIMIT 20")
            schema = sql.table(table)
            bounds = source.plan(schema, 7)
            decoder = decoder_of(sql, schema)
            feed = decoder.feeds[schema.table]
            order = source.key_order(feed, bounds)
            rows = 0
            for chunk in range(len(bounds) + 1):
                low = bounds[chunk - 1] if chunk else None
                high = bounds[chunk] if chunk < len(bounds) else None
                decoder.load(sql, schema, f" WHERE {condition(schema.key_columns, low, high)}")
                keys = [key for _, _, data in feed.buffer.take() for key, _ in frames(data)]
                assert {order.chunk_of(key) for key in keys if key} == {chunk}, (type_, shape, low, high)
                assert len(keys) <= 7
                rows += len(keys)
            assert rows == sql.run(f"SELECT COUNT(*) FROM {table}")[0][0], (type_, shape)
            assert len(bounds) >= (rows - 1) // 7
    source.close()
    sql.close()
