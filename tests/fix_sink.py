"""What sink tests share: events (the same that the conformance suite uses) and a harness per kind of target."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from fix_servers import POSTGRES_NAMES, fresh_mysql_database, fresh_postgres_database

from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.errors import TailraceError
from tailrace_schemas.uri import parse_database_url
from tailrace_sinks import mysql, postgres
from tailrace_sinks.conformance import Rows, World
from tailrace_sinks.conformance_stream import ITEMS, Encoder, Row, Stream, column, table
from tailrace_sinks.service import run_sink
from tailrace_sinks.sink import Sink, SinkConfig

__all__ = [
    "ITEMS",
    "Child",
    "Encoder",
    "MySqlHarness",
    "PostgresHarness",
    "Row",
    "Stream",
    "column",
    "harness",
    "running",
    "table",
    "world_of",
]


class PostgresHarness:
    engine = "postgresql"
    schema = "shop"

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        self.sinks: list[Sink] = []

    def sink(self, config: SinkConfig) -> Sink:
        self.sinks.append(postgres.open_sink(parse_database_url(self.url), config))
        return self.sinks[-1]

    def execute(self, statement: str) -> None:
        self.connection.execute(statement.encode())

    def query(self, statement: str) -> Rows:
        return self.connection.execute(statement.encode()).fetchall()

    def history(self, table: str) -> None:
        name = f'"{self.schema}"."{table}"'
        self.execute(f'CREATE TABLE "{self.schema}"."{table}_history" (op text, id bigint, v bigint)')
        self.execute(f"""
            CREATE FUNCTION "{self.schema}".note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              INSERT INTO "{self.schema}"."{table}_history"
                VALUES (left(TG_OP, 1), coalesce(NEW.id, OLD.id), coalesce(NEW.v, OLD.v));
              RETURN NULL; END $$;
            CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {name}
              FOR EACH ROW EXECUTE FUNCTION "{self.schema}".note();
            ALTER TABLE {name} ENABLE ALWAYS TRIGGER note""")

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()
        self.connection.close()


class MySqlHarness:
    """The fresh database keeps the progress; tables go to a database named after it."""

    engine = "mysql"

    def __init__(self, url: str) -> None:
        self.url = parse_database_url(url)
        self.schema = f"{self.url.database}_shop"
        self.progress = f"{self.url.database}.progress"
        self.connection = pymysql.connect(
            host=self.url.host,
            port=self.url.port,
            user=self.url.user,
            password=self.url.password.reveal() if self.url.password else "",
            charset="utf8mb4",
            autocommit=True,
            init_command="SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'",
        )
        self.sinks: list[Sink] = []

    def sink(self, config: SinkConfig) -> Sink:
        url = replace(self.url, options={"progress": self.progress})
        self.sinks.append(mysql.open_sink(url, config))
        return self.sinks[-1]

    def execute(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    def query(self, statement: str) -> Rows:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def history(self, table: str) -> None:
        history = f'"{self.schema}"."{table}_history"'
        self.execute(f"CREATE TABLE {history} (op char(1), id bigint, v bigint)")
        for verb, image in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            self.execute(
                f'CREATE TRIGGER "{self.schema}"."{table}_{verb}" AFTER {verb} ON "{self.schema}"."{table}"'
                f" FOR EACH ROW INSERT INTO {history} VALUES ('{verb[0]}', {image}.id, {image}.v)"
            )

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()
        self.execute(f'DROP DATABASE IF EXISTS "{self.schema}"')
        self.connection.close()


@contextmanager
def harness(name: str) -> Iterator[PostgresHarness | MySqlHarness]:
    database = fresh_postgres_database if name in POSTGRES_NAMES else fresh_mysql_database
    with database(name) as url:
        opened = PostgresHarness(url) if name in POSTGRES_NAMES else MySqlHarness(url)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def world_of(name: str) -> Iterator[World]:
    with harness(name) as target:
        world = World(target)
        try:
            yield world
        finally:
            world.close()


@contextmanager
def running(world: World) -> Iterator[threading.Event]:
    """The sink in a thread of its own; an error of its end is raised here."""
    stop, errors = threading.Event(), []

    def run() -> None:
        try:
            run_sink(world.log, world.sink, name="replica", stop=stop, status=world.status)
        except TailraceError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


class Child:
    """A sink in a process of its own (`fix_sink_child.py`), which `run` may kill at a failpoint."""

    def __init__(
        self,
        target: PostgresHarness | MySqlHarness,
        log: EmbeddedLog,
        last: int,
        folder: Path,
        connections: int = 0,
        on_row_error: str = "stop",
    ) -> None:
        url = target.url if isinstance(target, PostgresHarness) else mysql_url(target)
        script = str(Path(__file__).parent / "fix_sink_child.py")
        self.command = [sys.executable, script, str(log.path), url, str(last), "3", str(connections), on_row_error]
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        self.environment = {**os.environ, "PYTHONPATH": path}
        self.folder = folder

    def run(self, failpoint: str) -> int:
        environment = {**self.environment, "TAILRACE_FAILPOINT": failpoint}
        done = subprocess.run(self.command, env=environment, timeout=60, capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode


def mysql_url(target: MySqlHarness) -> str:
    url = target.url
    password = url.password.reveal() if url.password else ""
    return f"mysql://{url.user}:{password}@{url.host}:{url.port}/{url.database}?progress={target.progress}"
