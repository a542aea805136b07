"""A case of the matrix over shared servers: fresh databases at both ends, a log, and a folder of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import fix_servers
from fix_servers import KAFKA, POSTGRES_NAMES, REGISTRY, fresh_mysql_database, fresh_postgres_database
from pipeline.matrix.case import Case, Scale
from pipeline.matrix.engine import Side


@contextmanager
def matrix_case(source: str, target: str, log: str, folder: Path, seed: int, scale: Scale) -> Iterator[Case]:
    """`source` and `target`: names of servers; `log`: embedded or kafka."""
    name = f"m_{uuid.uuid4().hex[:10]}"
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        left = stack.enter_context(_source(source, name))
        yield Case(name, left, stack.enter_context(side(target, left.namespace)), _log(log, name), folder, seed, scale)


@contextmanager
def _source(server: str, name: str) -> Iterator[Side]:
    with side(server, name) as found:
        if found.engine == "postgresql":
            with Side("postgresql", found.url, "public").session() as session:
                session.run(f"CREATE SCHEMA {name}")
        yield found


@contextmanager
def side(server: str, namespace: str) -> Iterator[Side]:
    """A fresh database there. MySQL's own name stands in for the namespace; Postgres' schema is for others to make."""
    if server in POSTGRES_NAMES:
        with fresh_postgres_database(server) as url:
            yield Side("postgresql", url, namespace)
    else:
        with fresh_mysql_database(server) as url:
            yield Side("mysql", url, url.rpartition("/")[2])


def _log(log: str, name: str) -> str:
    if log == "embedded":
        return "sqlite"
    broker, registry = fix_servers.server(KAFKA), fix_servers.server(REGISTRY)
    return f"{broker.url}?registry={registry.url}&prefix={name}"
