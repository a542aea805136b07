"""A connection to a MySQL or MariaDB target that takes whole statements as bytes, and reads its catalogue."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from tailrace_schemas.table import TableId
from tailrace_schemas.uri import DatabaseUrl
from tailrace_sinks.mysql_errors import (
    CHANGED_VALUE,
    TRUNCATED,
    connect_error,
    number_of,
    rejected,
    truncated_column,
)
from tailrace_sinks.mysql_types import Flavor

# Exact or refused: nothing is cut or rounded without an error. Zero and invalid dates are kept as the source has them;
# a zero in an AUTO_INCREMENT column stays a zero.
SQL_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"
_WITHOUT_STRICT = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"
_SESSION = (
    f"SET SESSION sql_mode = '{SQL_MODE}'",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION foreign_key_checks = 0",
    "SET SESSION unique_checks = 1",
    "SET SESSION innodb_lock_wait_timeout = 60",
    "SET SESSION lock_wait_timeout = 60",
    "SET SESSION wait_timeout = 28800",
    "SET SESSION net_write_timeout = 600",
    "SET SESSION sql_notes = 1",
    "SET SESSION max_error_count = 65535",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)


def quote(name: str) -> str:
    """An identifier. The backtick is doubled and there is no other escape; U+0000 cannot stand in a name."""
    if "\0" in name:
        raise ValueError("a name with U+0000")
    return "`" + name.replace("`", "``") + "`"


def quoted(table: TableId) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}"


def literal(text: str) -> str:
    """A string constant, for a sql_mode without NO_BACKSLASH_ESCAPES."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0") + "'"


def tls_context(url: DatabaseUrl) -> ssl.SSLContext | None:
    """By `sslmode` and its files; None where TLS is off."""
    if url.sslmode == "disable":
        return None
    context = ssl.create_default_context(cafile=url.sslrootcert)
    context.check_hostname = url.sslmode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if url.sslmode == "require" else ssl.CERT_REQUIRED
    if url.sslcert is not None and url.sslkey is not None:
        context.load_cert_chain(url.sslcert, url.sslkey)
    return context


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """`type` as information_schema spells it (column_type)."""

    name: str
    type: str
    nullable: bool
    generated: bool
    has_default: bool
    collation: str | None


@dataclass(frozen=True, slots=True)
class TargetTable:
    """`uniques`: name → columns of every unique index, the primary key as PRIMARY; a prefix or an expression in it
    stands as an empty name."""

    table: TableId
    columns: dict[str, TargetColumn]
    uniques: dict[str, tuple[str, ...]]
    engine: str

    def has_unique(self, key: tuple[str, ...]) -> bool:
        return any(sorted(columns) == sorted(key) for columns in self.uniques.values())

    @property
    def primary(self) -> tuple[str, ...]:
        return self.uniques.get("PRIMARY", ())


_FULL_NAMES = "SELECT FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
_HAS_FULL_NAMES = (
    "SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema'"
    " AND TABLE_NAME = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND COLUMN_NAME = 'FULL_COLLATION_NAME'"
)


class Session:
    """One connection in autocommit; `begin` and `commit` are statements."""

    def __init__(self, url: DatabaseUrl, timeout: float) -> None:
        """
        Raises:
            TargetUnavailableError, ConfigError: see `mysql_errors.connect_error`.
        """
        parameters: dict[str, Any] = {
            "user": url.user or None,
            "password": url.password.reveal() if url.password else "",
            "charset": "utf8mb4",
            "autocommit": True,
            "connect_timeout": max(2, int(timeout)),
            "read_timeout": 3600,
            "write_timeout": 600,
            # Matched rows, not changed ones: a partial update must find its row.
            "client_flag": CLIENT.FOUND_ROWS,
            "program_name": "tailrace sink",
        }
        parameters |= {"unix_socket": url.host} if url.is_socket else {"host": url.host, "port": url.port}
        context = tls_context(url)
        parameters |= {"ssl_disabled": True} if context is None else {"ssl": context}
        try:
            self.connection = pymysql.connect(**parameters)
        except pymysql.MySQLError as error:
            raise connect_error(error, url.place) from error
        self._cursor = self.connection.cursor()
        try:
            for statement in _SESSION:
                self.run(statement)
            self.max_packet = int(str(self.value("SELECT @@max_allowed_packet")))
            self.flavor = self._flavor()
        except BaseException:
            self.connection.close()
            raise

    def _flavor(self) -> Flavor:
        version = str(self.value("SELECT VERSION()"))
        numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:3])
        names = {str(row[0]) for row in self.rows("SELECT COLLATION_NAME FROM information_schema.COLLATIONS")}
        if mariadb := "mariadb" in version.lower():
            # Its newer collations stand there without their character set, but columns have both in the name.
            names |= {str(row[0]) for row in self.rows(_FULL_NAMES)} if self.rows(_HAS_FULL_NAMES) else set()
        return Flavor(mariadb, numbers, frozenset(names))

    def close(self) -> None:
        with suppress(pymysql.MySQLError):  # it may be closed by the error that brought us here
            self.connection.close()

    def run(self, statement: str | bytes) -> int:
        """One statement; the number of rows it matched.

        Raises:
            pymysql.MySQLError: refused, or the connection was lost.
        """
        return int(self._cursor.execute(statement))

    def write(self, statement: str | bytes, table: TableId, blank: Collection[str] = ()) -> int:
        """A statement that writes rows; the number of rows it matched. `blank`: enum columns in which an empty text is
        the value with index 0, which only a session without strict mode can write.

        Raises:
            RowRejectedError: a value was changed on its way in, which strict mode lets pass as a note.
            pymysql.MySQLError: as `run`.
        """
        try:
            count = self.run(statement)
        except pymysql.MySQLError as error:
            if not blank or number_of(error) != TRUNCATED:
                raise
            return self._write_blank(statement, table, blank)
        if self._cursor.warning_count:
            for _, number, text in self.rows("SHOW WARNINGS"):
                if number in CHANGED_VALUE:
                    raise rejected(int(str(number)), str(text), table)
        return count

    def _write_blank(self, statement: str | bytes, table: TableId, blank: Collection[str]) -> int:
        """Without strict mode: whatever it tells of must be an empty text in one of `blank`."""
        self.run(f"SET SESSION sql_mode = '{_WITHOUT_STRICT}'")
        try:
            count = self.run(statement)
            told = self.warnings()
            found = self.rows("SHOW WARNINGS")
        finally:
            self.run(f"SET SESSION sql_mode = '{SQL_MODE}'")
        for level, number, text in found:
            if number == TRUNCATED and truncated_column(str(text)) in blank:
                continue
            if level != "Note" or number in CHANGED_VALUE:
                raise rejected(int(str(number)), str(text), table)
        if told != len(found):
            raise rejected(TRUNCATED, "", table)
        return count

    def warnings(self) -> int:
        """How many the last statement of `run` had; 65535 stands for more as well."""
        return int(self._cursor.warning_count)

    def rows(self, statement: str) -> Sequence[tuple[object, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def value(self, statement: str) -> object:
        found = self.rows(statement)
        return found[0][0] if found else None

    def read_table(self, table: TableId) -> TargetTable | None:
        """The table as the target's catalogue has it now, None where there is none."""
        where = f"TABLE_SCHEMA = {literal(table.schema)} AND TABLE_NAME = {literal(table.name)}"
        found = self.rows(f"SELECT ENGINE FROM information_schema.TABLES WHERE {where}")
        if not found:
            return None
        columns = self.rows(
            "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE = 'YES', EXTRA LIKE '%GENERATED%' AND EXTRA NOT LIKE"
            " 'DEFAULT\\_GENERATED%', COLUMN_DEFAULT IS NOT NULL OR EXTRA LIKE '%auto_increment%' OR EXTRA LIKE"
            f" 'DEFAULT\\_GENERATED%', COLLATION_NAME FROM information_schema.COLUMNS WHERE {where}"
            " ORDER BY ORDINAL_POSITION"
        )
        indexes = self.rows(
            "SELECT INDEX_NAME, IF(SUB_PART IS NULL, COALESCE(COLUMN_NAME, ''), '') FROM information_schema.STATISTICS"
            f" WHERE {where} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX"
        )
        uniques: dict[str, tuple[str, ...]] = {}
        for index, column in indexes:
            uniques[str(index)] = (*uniques.get(str(index), ()), str(column))
        described = [
            TargetColumn(str(n), _text(t), bool(null), bool(gen), bool(default), None if c is None else str(c))
            for n, t, null, gen, default, c in columns
        ]
        return TargetTable(table, {c.name: c for c in described}, uniques, str(found[0][0]))

    def has_database(self, name: str) -> bool:
        statement = f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal(name)}"
        return self.value(statement) is not None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
