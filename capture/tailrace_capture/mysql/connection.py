"""Connections to MySQL and MariaDB by pymysql, with the session settings that every reader of ours needs.

Text arrives as UTF-8, times in UTC, `sql_mode` empty, no statement is cut off by a server-side time limit. Errors of
the driver are classified here, where they are caught.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.connections import Connection

from tailrace_schemas.errors import SourceUnavailableError, StopError, TailraceError
from tailrace_schemas.refused import mysql_refusal
from tailrace_schemas.uri import DatabaseUrl

CONNECT_SECONDS = 10
READ_SECONDS = 600

_NO_RIGHT = {1044, 1045, 1142, 1143, 1227, 1370, 3669}
_LOCK_WAIT = {1205, 1213}


def tls_context(url: DatabaseUrl) -> ssl.SSLContext | None:
    """The same words as libpq's: require encrypts and checks nothing, verify-ca checks the chain, verify-full the name
    too."""
    if url.sslmode == "disable" or url.is_socket:
        return None
    context = ssl.create_default_context(cafile=url.sslrootcert)
    context.check_hostname = url.sslmode == "verify-full"
    if url.sslmode == "require":
        context.verify_mode = ssl.CERT_NONE
    if url.sslcert is not None:
        context.load_cert_chain(url.sslcert, url.sslkey)
    return context


def connect(url: DatabaseUrl, *, database: bool = False) -> Connection[Any]:
    """A session in autocommit.

    Raises:
        SourceUnavailableError: nobody answers. RefusedError: the server refuses the login.
    """
    place: dict[str, Any] = {"unix_socket": url.host} if url.is_socket else {"host": url.host, "port": url.port}
    with classified(f"connect to {url.place}"), _let_in(url):
        connection: Connection[Any] = pymysql.connect(
            **place,
            user=url.user or None,
            password=url.password.reveal() if url.password is not None else "",
            database=url.database if database and url.database else None,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            write_timeout=READ_SECONDS,
            ssl=tls_context(url),
            ssl_disabled=url.sslmode == "disable" or url.is_socket,
            local_infile=False,
            program_name="tailrace",
        )
        run(
            connection,
            "SET SESSION time_zone = '+00:00', sql_mode = '', net_write_timeout = 3600, wait_timeout = 86400",
        )
        # MySQL 8 tells sizes of tables as they were up to a day ago; what a chunk may hold is reckoned from them.
        limits = "max_statement_time = 0" if is_mariadb(connection) else "max_execution_time = 0"
        if not is_mariadb(connection) and server_version(connection) >= (8, 0):
            limits += ", information_schema_stats_expiry = 0"
        run(connection, f"SET SESSION {limits}")
    return connection


@contextmanager
def _let_in(url: DatabaseUrl) -> Iterator[None]:
    """Errors of a connection being made that are a refusal; others pass."""
    try:
        yield
    except pymysql.MySQLError as error:
        refused = mysql_refusal(_number(error), _detail(error), "source", url.place)
        if refused is None:
            raise
        raise refused from error


def is_mariadb(connection: Connection[Any]) -> bool:
    return "mariadb" in str(inner(connection).get_server_info()).lower()


def server_version(connection: Connection[Any]) -> tuple[int, int]:
    """Major and minor; MariaDB may put `5.5.5-` in front of its own."""
    text = str(inner(connection).get_server_info()).removeprefix("5.5.5-")
    major, minor = text.split("-")[0].split(".")[:2]
    return int(major), int(minor)


def inner(connection: Connection[Any]) -> Any:
    """The driver's own parts that its public face does not offer: packets, socket, commands."""
    return connection


@contextmanager
def classified(doing: str) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except pymysql.MySQLError as error:
        raise ours(error, doing) from error
    except (OSError, ssl.SSLError) as error:
        raise SourceUnavailableError(f"could not {doing}", detail=str(error)) from error


def _number(error: pymysql.MySQLError) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _detail(error: pymysql.MySQLError) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def ours(error: pymysql.MySQLError, doing: str) -> TailraceError:
    """The driver's error as one of ours, sorted by what the caller does next."""
    number, detail = _number(error), _detail(error)
    if number in _NO_RIGHT:
        return StopError(f"could not {doing}", code="GRANT", detail=detail, hint="tailrace check prints the GRANT")
    if number in _LOCK_WAIT or isinstance(error, pymysql.OperationalError | pymysql.InterfaceError):
        return SourceUnavailableError(f"could not {doing}", detail=f"{number}: {detail}")
    if isinstance(error.__context__, OSError | socket.timeout):
        return SourceUnavailableError(f"could not {doing}", detail=detail)
    hint = "correct at the source what the detail names, then start again"
    return StopError(f"could not {doing}", code="SOURCE_SQL", detail=f"{number}: {detail}", hint=hint)


def run(
    connection: Connection[Any], statement: str, arguments: Sequence[object] | None = None
) -> list[tuple[Any, ...]]:
    """All rows of one statement, values as the driver converts them."""
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return [tuple(row) for row in cursor.fetchall()]


def ask(
    connection: Connection[Any], statement: str, arguments: Sequence[object] | None = None
) -> list[tuple[Any, ...]]:
    """As `run`, with the driver's errors classified."""
    with classified("ask the source"):
        return run(connection, statement, arguments)


def variable(connection: Connection[Any], name: str) -> str | None:
    """A global variable's text; None where the server has none of that name."""
    rows = ask(connection, "SHOW GLOBAL VARIABLES LIKE %s", (name.replace("_", r"\_"),))
    return str(rows[0][1]) if rows else None


def quote(name: str) -> str:
    """An identifier."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A string literal; the session's sql_mode is empty, so backslashes escape."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0") + "'"
