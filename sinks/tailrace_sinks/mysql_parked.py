"""Parked rows at a MySQL or MariaDB target; see `parked`.

The rows change in the batch's transaction. DDL commits by itself (rule D6), so a parked table is made as a step of its
own before the batch begins again, and dropped after a batch that has left it empty. Its name holds the commit record
it was made for, and no name is used again: a process that was paused before its DROP, and replaced, hits nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import count

import pymysql

from tailrace_schemas.errors import InvariantError, RowRejectedError, StopError
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.table import TableId
from tailrace_sinks.decode import Compacted
from tailrace_sinks.mysql_apply import DUPLICATE, TableApply
from tailrace_sinks.mysql_errors import number_of, rejected
from tailrace_sinks.mysql_session import Session, TargetTable, literal, quote, quoted
from tailrace_sinks.parked import parked_name, prefix
from tailrace_sinks.sink import SinkConfig

log_ = logging.getLogger(__name__)

TABLE_EXISTS = 1050
UNSAFE_STATEMENT = 1592  # a note under binlog_format=STATEMENT; the order of the rows does not matter here
MOST_WARNINGS = 65_535
NUMBER = "_tailrace_n"


class ParkDueError(Exception):
    """Rows of a table have to be parked, and there is no place for them yet."""

    def __init__(self, table: TableApply) -> None:
        super().__init__(str(table.schema.table))
        self.table = table


class ParkedTables:
    """The parked tables of one sink: one in use at most by source table, and empty ones of former processes.
    `allowed`: in the batch in hand a unique key may refuse a row that is right."""

    def __init__(self, progress: TableId, config: SinkConfig) -> None:
        self.allowed = False
        self._progress, self._config = progress, config
        self._used: dict[TableId, TableId] = {}
        self._with_rows: set[TableId] = set()
        self._before: set[TableId] = set()
        self._left: list[TableId] = []

    def read(self, session: Session, sources: Iterable[TableId]) -> None:
        """What a former process has left."""
        names = _names(session, self._progress, self._config.pipeline)
        self._used, self._with_rows, self._left = {}, set(), []
        for source in sources:
            for name in names:
                if name.name.startswith(self._stem(source)):
                    self._read_one(session, source, name)

    def _read_one(self, session: Session, source: TableId, name: TableId) -> None:
        if not _rows(session, name):
            self._left.append(name)
        elif source in self._used:
            raise InvariantError(f"rows of {source} are parked in {self._used[source]} and in {name}")
        else:
            self._used[source] = name
            self._with_rows.add(source)

    def _stem(self, source: TableId) -> str:
        return parked_name(self._progress, self._config.pipeline, self._config.name, source) + "_"

    def begin(self, *, allowed: bool) -> None:
        """A target transaction begins."""
        self.allowed = allowed
        self._before = set(self._with_rows)

    def undo(self) -> None:
        """It was rolled back."""
        self._with_rows = self._before

    def state(self) -> set[TableId]:
        """For `restore`, where a savepoint takes back what follows."""
        return set(self._with_rows)

    def restore(self, state: set[TableId]) -> None:
        self._with_rows = state

    def hold(self, source: TableId) -> bool:
        """Whether the table has parked rows."""
        return source in self._with_rows

    def sources(self) -> list[TableId]:
        """Tables that have parked rows."""
        return sorted(self._with_rows)

    def found(self, session: Session, source: TableId) -> TargetTable | None:
        """The parked table as the catalogue has it; schema changes of the target are its own as well."""
        return session.read_table(self._used[source]) if source in self._used else None

    def make(self, session: Session, table: TableApply, seq: int) -> None:
        """Outside of a transaction. Columns of what the sink writes; of the unique keys only the row key's.

        The statement makes the whole table or nothing, and never takes one that is there.
        """
        source = table.schema.table
        names = (TableId(self._progress.schema, f"{self._stem(source)}{seq}_{number}") for number in count())
        name = next(name for name in names if _made(session, table, name))
        self._used[source] = name
        failpoint("sink.parked")
        log_.info("rows wait for a unique value", extra={"table": str(source), "parked": str(name)})

    # ---- rows

    def apply(self, session: Session, table: TableApply, state: Compacted) -> None:
        """The staged rows, whatever unique keys say: into the parked table, from there what can into the target.

        Raises:
            ParkDueError: there is no parked table.
        """
        source = table.schema.table
        if source not in self._used:
            raise ParkDueError(table)
        table.replace(session, state, parked=quoted(self._used[source]))
        self._move(session, table)

    def _move(self, session: Session, table: TableApply) -> None:
        """What no row of the target contradicts any more. IGNORE passes over more than that, so it is looked after."""
        source = table.schema.table
        name = self._used[source]
        columns, total = self._columns(session, name), _rows(session, name)
        if session.value("SELECT @@max_error_count") != MOST_WARNINGS:
            session.run(f"SET SESSION max_error_count = {MOST_WARNINGS}")
        insert = f"INSERT IGNORE INTO {table.name} ({columns}) SELECT {columns} FROM {quoted(name)}"
        moved = session.run(insert)
        if session.warnings():
            self._look(session, table, total - moved)
        deleted = session.run(f"DELETE s FROM {quoted(name)} s STRAIGHT_JOIN {table.name} t ON {table.same_key}")
        if deleted != moved:
            raise InvariantError(f"{moved} parked rows of {source} moved, {deleted} are there")
        self._with_rows.discard(source)
        if moved < total:
            self._with_rows.add(source)

    @staticmethod
    def _columns(session: Session, name: TableId) -> str:
        """The parked table's own: rows of several descriptions may lie in it."""
        found = session.read_table(name)
        return ", ".join(quote(column) for column in found.columns if column != NUMBER) if found else ""

    @staticmethod
    def _look(session: Session, table: TableApply, left: int) -> None:
        """
        Raises:
            RowRejectedError: something else than a unique key was passed over; the transaction must not be committed.
        """
        total = int(str(session.value("SHOW COUNT(*) WARNINGS")))
        target = table.target.table
        for _, number, text in session.rows("SHOW WARNINGS"):
            if number not in (*DUPLICATE, UNSAFE_STATEMENT):
                raise rejected(int(str(number)), str(text), target)
        if total > MOST_WARNINGS:
            raise StopError(
                f'{left} rows of "{target}" wait for unique values: more than can be looked after',
                code="PARKED_ROWS",
                hint=f"drop the unique keys of {table.name} for the time of the load, and make them again after it",
                table=target,
            )

    def settle(self, session: Session, table: TableApply) -> None:
        """The target is consistent: every row finds its place.

        Raises:
            RowRejectedError: some do not; a unique key of the target is violated.
        """
        source = table.schema.table
        self._move(session, table)
        if not self.hold(source):
            return
        name = self._used[source]
        columns, rows = self._columns(session, name), _rows(session, name)
        try:
            session.write(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {quoted(name)}", name)
        except pymysql.err.IntegrityError as error:
            if number_of(error) not in DUPLICATE:
                raise
            raise _violated(error, table, name, rows) from error
        raise InvariantError(f"rows of {source} were parked, and no unique key refuses them")

    # ---- an end

    def empty(self, session: Session, source: TableId) -> None:
        """The table is emptied."""
        if self.hold(source):
            session.run(f"DELETE FROM {quoted(self._used[source])}")
            self._with_rows.discard(source)

    def give_up(self, session: Session, source: TableId) -> None:
        """The table is stopped: its rows are worth nothing before it is loaded again."""
        if self.hold(source):
            rows = _rows(session, self._used[source])
            log_.warning("parked rows of a stopped table dropped", extra={"table": str(source), "rows": rows})
        self.empty(session, source)

    def drop(self, session: Session) -> None:
        """Outside of a transaction, after a batch that leaves the target consistent: nothing is parked.

        A table found empty when a process opens is never used again, so nobody can put a row into one that goes here:
        who had one in use and has not committed since is fenced by the batch before. A kill leaves it to the next one.
        """
        for source, name in list(self._used.items()):
            if source not in self._with_rows:
                self._left.append(self._used.pop(source))
                log_.info("no row waits for a unique value any more", extra={"table": str(source), "parked": str(name)})
        while self._left:
            failpoint("sink.parked")
            name = self._left[-1]
            if session.read_table(name) is not None and _rows(session, name):
                raise InvariantError(f"a row is parked in {name}, and nobody knows of it")
            session.run(f"DROP TABLE IF EXISTS {quoted(name)}")
            self._left.pop()


def _made(session: Session, table: TableApply, name: TableId) -> bool:
    """False where there is a table of this name."""
    keyed = table.target.has_unique(table.key_names)
    first = f"PRIMARY KEY ({', '.join(table.key)})" if keyed else f"{NUMBER} bigint AUTO_INCREMENT PRIMARY KEY"
    create = f"CREATE TABLE {quoted(name)} ({first}) ENGINE = InnoDB"
    try:
        session.run(f"{create} SELECT {', '.join(table.written)} FROM {table.name} LIMIT 0")
    except pymysql.err.OperationalError as error:
        if number_of(error) != TABLE_EXISTS:
            raise
        return False
    return True


def _violated(error: pymysql.MySQLError, table: TableApply, parked: TableId, rows: int) -> RowRejectedError:
    """The server's message ends with the key's name, and holds a value before it."""
    found = rejected(number_of(error), str(error.args[1]), table.target.table)
    key = found.detail.partition(" (key ")[2].rstrip(")").rpartition(".")[2]
    return RowRejectedError(
        f'could not apply events to "{table.target.table}"',
        detail=f"{rows} rows have a value that the key {quote(key)} allows once (they wait in {quoted(parked)})",
        hint=f"if the source allows it: ALTER TABLE {table.name} DROP INDEX {quote(key)}",
        table=table.target.table,
    )


def _rows(session: Session, name: TableId) -> int:
    return int(str(session.value(f"SELECT COUNT(*) FROM {quoted(name)}")))


def _names(session: Session, progress: TableId, pipeline: str) -> list[TableId]:
    begin = prefix(progress, pipeline)
    rows = session.rows(
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(progress.schema)}"
        f" AND LEFT(TABLE_NAME, {len(begin)}) = {literal(begin)} ORDER BY TABLE_NAME"
    )
    return [TableId(progress.schema, str(name)) for (name,) in rows]


def forget_parked(session: Session, progress: TableId, pipeline: str) -> None:
    """Drop the parked tables of a pipeline; its next start loads anew."""
    for name in _names(session, progress, pipeline):
        session.run(f"DROP TABLE IF EXISTS {quoted(name)}")


__all__ = ["ParkDueError", "ParkedTables", "forget_parked"]
