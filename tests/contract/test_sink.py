"""The sinks' conformance suite against real servers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from fix_servers import fresh_postgres_database

from tailrace_schemas.uri import parse_database_url
from tailrace_sinks.conformance import CASES, Harness, Rows, World
from tailrace_sinks.postgres import PostgresSink, open_sink
from tailrace_sinks.sink import Sink, SinkConfig

pytestmark = pytest.mark.servers
POSTGRES = ("POSTGRES14", "POSTGRES18")


class PostgresHarness:
    engine = "postgresql"
    schema = "shop"

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        self.sinks: list[PostgresSink] = []

    def sink(self, config: SinkConfig) -> Sink:
        self.sinks.append(open_sink(parse_database_url(self.url), config))
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


@contextmanager
def harness(name: str) -> Iterator[Harness]:
    with fresh_postgres_database(name) as url:
        opened = PostgresHarness(url)
        try:
            yield opened
        finally:
            opened.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("name", POSTGRES)
def test_sink_conforms(name: str, case: Callable[[World], None]) -> None:
    with harness(name) as target:
        world = World(target)
        try:
            case(world)
        finally:
            world.close()
