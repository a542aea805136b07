"""One side of a run, source or target: a database in one of two dialects, and how each spells what the workload needs.

Nothing here is Tailrace's: the comparison must not trust what it judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import unquote, urlsplit

from pipeline.matrix.tables import CHILDREN, DOCUMENTS, JOURNAL, PARENTS, SEATS, TABLES, Table, Value, Word

Rows = list[tuple[object, ...]]


class Session(Protocol):
    """One connection; every statement commits by itself unless the text says BEGIN."""

    def run(self, text: str) -> None:
        """One or more statements, separated by semicolons.

        Raises:
            RetryTransactionError: the database chose this transaction to end a deadlock.
        """

    def rows(self, query: str) -> Rows: ...


class RetryTransactionError(Exception):
    """Rolled back by the database; the same transaction may be tried again."""


class Dialect(Protocol):
    """How an engine spells things. `case_insensitive`: of two words that differ in case only one can be a key."""

    case_insensitive: bool
    swap_in_one_statement: bool

    def quote(self, name: str) -> str: ...

    def literal(self, value: Value) -> str: ...

    def create(self, table: Table) -> list[str]: ...

    def delete_one(self, table: str, condition: str) -> str:
        """A DELETE of one of the rows that fit, whichever."""


@dataclass(frozen=True, slots=True)
class Side:
    """`namespace`: the schema (Postgres), or the database, which then is that of the URL (MySQL and MariaDB)."""

    engine: Literal["postgresql", "mysql"]
    url: str
    namespace: str

    @property
    def dialect(self) -> Dialect:
        return PostgresDialect() if self.engine == "postgresql" else MySqlDialect()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session in the namespace, in UTC and UTF-8."""
        with _postgres_session(self) if self.engine == "postgresql" else _mysql_session(self) as session:
            yield session


def create_tables(side: Side) -> None:
    """Make the workload's tables, empty. The namespace must be there."""
    with side.session() as session:
        for table in TABLES:
            for statement in side.dialect.create(table):
                session.run(statement)


def add_target_constraints(side: Side) -> None:
    """What a user adds to a replica: unique and foreign keys as at the source, and an index for rows without key."""
    with side.session() as session:
        session.run(f"CREATE UNIQUE INDEX seats_seat ON {SEATS.name} (seat)")
        session.run(f"CREATE INDEX journal_tag ON {JOURNAL.name} (tag)")
        session.run(
            f"ALTER TABLE {CHILDREN.name} ADD CONSTRAINT children_parent"
            f" FOREIGN KEY (parent) REFERENCES {PARENTS.name} (id) ON DELETE CASCADE"
        )


# ---- Postgres

_POSTGRES_TYPES: dict[Word, str] = {
    "int": "integer",
    "big": "bigint",
    "small": "smallint",
    "bool": "boolean",
    "decimal": "numeric(18,4)",
    "number": "numeric",
    "float": "double precision",
    "date": "date",
    "stamp": "timestamp(6)",
    "instant": "timestamptz(6)",
    "time": "time(6)",
    "json": "jsonb",
    "bytes": "bytea",
    "text": "text",
    "short": "varchar(40)",
    "uuid": "uuid",
    "external": "text",
    "bytewise": 'varchar(60) COLLATE "C"',
    "locale": 'varchar(60) COLLATE "en-x-icu"',
}


class PostgresDialect:
    case_insensitive = False
    swap_in_one_statement = True

    def quote(self, name: str) -> str:
        return f'"{name}"'

    def literal(self, value: Value) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return repr(value)
        if isinstance(value, bytes):
            return f"'\\x{value.hex()}'"
        return "'" + value.replace("'", "''") + "'"

    def create(self, table: Table) -> list[str]:
        columns = [f'"{c.name}" {_POSTGRES_TYPES[c.word]}{"" if c.nullable else " NOT NULL"}' for c in table.columns]
        if table.key:
            columns.append(f"PRIMARY KEY ({', '.join(table.key)})")
        more: list[str] = []
        if table is SEATS:
            columns.append("UNIQUE (seat) DEFERRABLE")
        if table is CHILDREN:
            columns.append("FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE")
            more.append("CREATE INDEX ON children (parent)")
        if table is DOCUMENTS:
            more.append("ALTER TABLE documents ALTER body SET STORAGE EXTERNAL")
        if table is JOURNAL:
            more += ["ALTER TABLE journal REPLICA IDENTITY FULL", "CREATE INDEX ON journal (tag)"]
        return [f"CREATE TABLE {table.name} ({', '.join(columns)})", *more]

    def delete_one(self, table: str, condition: str) -> str:
        return f'DELETE FROM "{table}" WHERE ctid = (SELECT min(ctid) FROM "{table}" WHERE {condition})'


@contextmanager
def _postgres_session(side: Side) -> Iterator[Session]:
    import psycopg

    class Postgres:
        def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
            self._connection = connection

        def run(self, text: str) -> None:
            try:
                self._connection.execute(text.encode())
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
                self._connection.execute(b"rollback")
                raise RetryTransactionError from error

        def rows(self, query: str) -> Rows:
            return self._connection.execute(query.encode()).fetchall()

    options = f'-c search_path="{side.namespace}" -c timezone=UTC -c synchronous_commit=off -c jit=off'
    with psycopg.connect(side.url, autocommit=True, options=options, client_encoding="UTF8") as connection:
        yield Postgres(connection)


# ---- MySQL and MariaDB

_MYSQL_TYPES: dict[Word, str] = {
    "int": "int",
    "big": "bigint",
    "small": "smallint",
    "bool": "boolean",
    "decimal": "decimal(18,4)",
    "number": "decimal(40,12)",
    "float": "double",
    "date": "date",
    "stamp": "datetime(6)",
    "instant": "timestamp(6)",
    "time": "time(6)",
    "json": "json",
    "bytes": "mediumblob",
    "text": "text",
    "short": "varchar(40)",
    "uuid": "char(36) CHARACTER SET ascii",
    "external": "mediumtext",
    "bytewise": "varchar(60) COLLATE utf8mb4_bin",
    "locale": "varchar(60) COLLATE utf8mb4_general_ci",
}


class MySqlDialect:
    case_insensitive = True
    swap_in_one_statement = False

    def quote(self, name: str) -> str:
        return f"`{name}`"

    def literal(self, value: Value) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return "1" if value else "0"
        if isinstance(value, int | float):
            return repr(value)
        if isinstance(value, bytes):
            return f"x'{value.hex()}'"
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def create(self, table: Table) -> list[str]:
        # A timestamp without NULL would change by itself.
        columns = [f"`{c.name}` {_MYSQL_TYPES[c.word]}{' NULL' if c.nullable else ' NOT NULL'}" for c in table.columns]
        if table.key:
            columns.append(f"PRIMARY KEY ({', '.join(f'`{name}`' for name in table.key)})")
        if table is SEATS:
            columns.append("UNIQUE KEY (seat)")
        if table is CHILDREN:
            columns.append("FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE")
        if table is JOURNAL:
            columns.append("KEY (tag)")
        return [f"CREATE TABLE `{table.name}` ({', '.join(columns)}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"]

    def delete_one(self, table: str, condition: str) -> str:
        return f"DELETE FROM `{table}` WHERE {condition} LIMIT 1"


_DEADLOCK, _LOCK_WAIT = 1213, 1205


@contextmanager
def _mysql_session(side: Side) -> Iterator[Session]:
    import pymysql
    from pymysql.constants import CLIENT

    parts = urlsplit(side.url)
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=side.namespace,
        charset="utf8mb4",
        autocommit=True,
        client_flag=CLIENT.MULTI_STATEMENTS,
        init_command="SET time_zone = '+00:00'",
    )
    with connection.cursor() as first:
        # Fewer gap locks, so fewer deadlocks between the writers.
        first.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    class MySql:
        def run(self, text: str) -> None:
            with connection.cursor() as cursor:
                try:
                    cursor.execute(text)
                    while cursor.nextset():
                        pass
                except pymysql.err.OperationalError as error:
                    if error.args[0] not in (_DEADLOCK, _LOCK_WAIT):
                        raise
                    connection.rollback()
                    raise RetryTransactionError from error

        def rows(self, query: str) -> Rows:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())

    with connection:
        yield MySql()


def assignments(dialect: Dialect, values: dict[str, Value]) -> str:
    return ", ".join(f"{dialect.quote(name)} = {dialect.literal(value)}" for name, value in values.items())


def insert(dialect: Dialect, table: Table, rows: Sequence[Sequence[Value]]) -> str:
    """One INSERT of many whole rows."""
    lines = (f"({', '.join(map(dialect.literal, row))})" for row in rows)
    return f"INSERT INTO {dialect.quote(table.name)} VALUES {', '.join(lines)}"
