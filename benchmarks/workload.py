"""The measured work: a table of ten columns, about 200 bytes a row, and changes in transactions of 100.

A transaction is 60 inserts, 30 updates of rows it inserted and 10 deletes of them, as statements of many rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
import pymysql

from tailrace_schemas.uri import parse_database_url

INSERTS, UPDATES, DELETES = 60, 30, 10
CHANGES = INSERTS + UPDATES + DELETES


class Database(Protocol):
    """A source or target database of a benchmark."""

    url: str

    def make_table(self) -> None: ...

    def fill(self, rows: int) -> None:
        """`rows` rows with keys from 0."""

    def change(self, transactions: int, first: int) -> None:
        """So many transactions on keys from `first`."""

    def count(self) -> int: ...


@dataclass(slots=True)
class Postgres:
    url: str

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            for statement in statements:
                connection.execute(statement.encode())

    def make_table(self) -> None:
        self._run(
            "CREATE TABLE bench (id bigint PRIMARY KEY, i1 int, i2 int, i3 int, amount numeric(12,2), v1 varchar(24),"
            " v2 varchar(24), ts timestamptz, flag boolean, txt text)"
        )

    def _rows(self, first: int, count: int) -> str:
        return (
            "INSERT INTO bench"
            " SELECT g, g % 1000, g, -g, g * 1.25, 'v' || g, 'w' || g, now(), g % 2 = 0, repeat('x', 60)"
            f" FROM generate_series({first}, {first + count - 1}) g"
        )

    def fill(self, rows: int) -> None:
        self._run(self._rows(0, rows), "ANALYZE bench")

    def change(self, transactions: int, first: int) -> None:
        self._run(
            "CREATE OR REPLACE PROCEDURE work(n int, k bigint) LANGUAGE plpgsql AS $$ BEGIN FOR t IN 1..n LOOP "
            "INSERT INTO bench SELECT g, g % 1000, g, -g, g * 1.25, 'v' || g, 'w' || g, now(), true, repeat('x', 60)"
            f" FROM generate_series(k, k + {INSERTS - 1}) g;"
            f" UPDATE bench SET i2 = i2 + 1 WHERE id BETWEEN k AND k + {UPDATES - 1};"
            f" DELETE FROM bench WHERE id BETWEEN k + {INSERTS - DELETES} AND k + {INSERTS - 1};"
            f" COMMIT; k := k + {INSERTS}; END LOOP; END $$",
            f"CALL work({transactions}, {first})",
        )

    def count(self) -> int:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT count(*) FROM bench").fetchone()
        return 0 if row is None else int(row[0])


@dataclass(slots=True)
class MySql:
    """MySQL or MariaDB."""

    url: str

    def _connect(self) -> Any:
        url = parse_database_url(self.url)
        password = "" if url.password is None else url.password.reveal()
        return pymysql.connect(
            host=url.host, port=url.port, user=url.user, password=password, database=url.database, autocommit=False
        )

    def make_table(self) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE bench (id bigint PRIMARY KEY, i1 int, i2 int, i3 int, amount decimal(12,2),"
                " v1 varchar(24), v2 varchar(24), ts datetime(6), flag tinyint(1), txt varchar(100)) CHARSET utf8mb4"
            )

    def _values(self, first: int, count: int) -> str:
        text = "x" * 60
        return ",".join(
            f"({g},{g % 1000},{g},{-g},{g * 125}/100,'v{g}','w{g}','2024-01-02 03:04:05.678901',{g % 2},'{text}')"
            for g in range(first, first + count)
        )

    def fill(self, rows: int) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            for first in range(0, rows, 5000):
                cursor.execute(f"INSERT INTO bench VALUES {self._values(first, min(5000, rows - first))}")
                connection.commit()
            cursor.execute("ANALYZE TABLE bench")

    def change(self, transactions: int, first: int) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            for k in range(first, first + transactions * INSERTS, INSERTS):
                cursor.execute(f"INSERT INTO bench VALUES {self._values(k, INSERTS)}")
                cursor.execute(f"UPDATE bench SET i2 = i2 + 1 WHERE id BETWEEN {k} AND {k + UPDATES - 1}")
                cursor.execute(f"DELETE FROM bench WHERE id BETWEEN {k + INSERTS - DELETES} AND {k + INSERTS - 1}")
                connection.commit()

    def count(self) -> int:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bench")
            row = cursor.fetchone()
        return int(row[0])
