"""The MySQL and MariaDB sink: one connection, one target transaction per batch, progress inside it.

DDL commits by itself here (rule D6). So a batch that meets a table or a schema change that needs DDL is rolled back,
the DDL is run as a step of its own, and the batch begins again; what may only go after the batch (dropped columns) is
noted with it. Sources of facts: MySQL 8.0 manual, "Statements That Cause an Implicit Commit"; MariaDB documentation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar, overload

import pymysql

from tailrace_log.log import DeadLetter, Marker
from tailrace_schemas.errors import (
    LOAD_AGAIN,
    EventError,
    Finding,
    InvariantError,
    OutcomeUnknownError,
    TableStopError,
    TailraceError,
    TargetUnavailableError,
)
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.table import Column, TableId, TableSchema
from tailrace_schemas.uri import DatabaseUrl
from tailrace_sinks.batch_apply import BatchApply, adds_columns
from tailrace_sinks.cascade import refuse_actions
from tailrace_sinks.dead_letter import UNCLEAR, Unclear
from tailrace_sinks.decode import Counts
from tailrace_sinks.envelope import Q_SQL
from tailrace_sinks.evolution import (
    UNKNOWN_DEFAULT,
    Ambiguous,
    DropColumn,
    Operation,
    RenameColumn,
    differences,
    unambiguous,
    untold,
)
from tailrace_sinks.key_rules import refuse, source_findings, target_findings
from tailrace_sinks.lanes import LanesSink
from tailrace_sinks.mysql_apply import DUPLICATE, MySqlActions, TableApply
from tailrace_sinks.mysql_catalog import after_batch, before_batch, create_database, create_table, key_facts
from tailrace_sinks.mysql_errors import LOST, number_of, statement_error
from tailrace_sinks.mysql_letters import MySqlLetters
from tailrace_sinks.mysql_parked import ParkDueError, ParkedTables, forget_parked
from tailrace_sinks.mysql_progress import Pending, ProgressTables, forget, progress_table
from tailrace_sinks.mysql_session import Session, TargetTable, quote, quoted
from tailrace_sinks.mysql_types import mysql_type
from tailrace_sinks.parked import refuse_lanes
from tailrace_sinks.plan import MYSQL_SQL
from tailrace_sinks.progress import Held, Move, Place, whole
from tailrace_sinks.rows import Part
from tailrace_sinks.schema_stops import ambiguous_stop, schema_stop
from tailrace_sinks.sink import Applied, DdlAction, Progress, Rows, Sink, SinkBatch, SinkConfig

T = TypeVar("T")
log_ = logging.getLogger(__name__)

MAX_CHUNK = 4 * 1024 * 1024


def open_sink(url: DatabaseUrl, config: SinkConfig) -> Sink:
    """A sink that connects at `open`. `url` has its password resolved.

    Raises:
        ConfigError: an option of the URL or of `config` cannot be had.
    """
    config.check()
    if config.consistency == "key":
        return LanesSink([MySqlSink(url, config) for _ in range(config.connections)], config)
    return MySqlSink(url, config)


def forget_pipeline(url: DatabaseUrl, pipeline: str, connect_timeout: float = 10.0) -> int:
    """Remove a pipeline's progress and parked rows from the target; the number of sinks forgotten.

    Raises:
        TargetUnavailableError, ConfigError, StopError: see `Sink.open`.
    """
    session = Session(url, connect_timeout)
    try:
        progress = progress_table(url.options.get("progress"))
        forget_parked(session, progress, pipeline)
        return forget(session, progress, pipeline)
    except pymysql.MySQLError as error:
        raise statement_error(error, None) from error
    finally:
        session.close()


class _DdlDueError(Exception):
    """The batch met a table that has to be made or changed first."""

    def __init__(self, schema: TableSchema, marker: Marker | None) -> None:
        super().__init__(str(schema.table))
        self.schema, self.marker = schema, marker


class MySqlSink(BatchApply[Session]):
    """See `sink.Sink` and `lanes.Lane`. After any error the connection is dropped and `open` makes a new one."""

    dialect, quoting = MYSQL_SQL, Q_SQL

    def __init__(self, url: DatabaseUrl, config: SinkConfig) -> None:
        self._url = url
        self._tables = ProgressTables(progress_table(url.options.get("progress")), config)
        self._letters = MySqlLetters(self._tables.progress, config)
        self._parked = ParkedTables(self._tables.progress, config)
        super().__init__(config, self._letters, self._parked)
        self._session: Session | None = None
        self._progress: Progress | None = None
        self._drops: dict[TableId, list[str]] = {}
        self._applies: dict[TableSchema, TableApply] = {}
        self._renamed: dict[TableId, dict[str, str]] = {}
        self._ready: set[TableSchema] = set()
        self._ran: list[tuple[TableId, str, DdlAction]] = []
        self._stages = 0
        self._careful = False

    def open(self, *, take_over: bool) -> Progress:
        found = self._opened(lambda session: self._tables.read(session, take_over=take_over))
        self._progress = self._with_letters(found)
        return self._progress

    def lead(self, *, take_over: bool) -> Held:
        held = self._opened(lambda session: self._tables.read_rows(session, take_over=take_over))
        refuse_lanes(self._parked.sources())
        return Held(self._with_letters(held.progress), held.rows)

    def join(self) -> None:
        self._opened(None)

    @overload
    def _opened(self, read: Callable[[Session], T]) -> T: ...

    @overload
    def _opened(self, read: None) -> None: ...

    def _opened(self, read: Callable[[Session], T] | None) -> T | None:
        """A new connection, and what `read` finds over it; None where another lane leads."""
        self.close()
        session = Session(self._url, self._config.connect_timeout)
        self._session = session
        try:
            self._tables.make(session)
            # Multi-table statements want a default database, though every name in them is qualified.
            session.run(f"USE {quote(self._tables.progress.schema)}")
            found = None if read is None else read(session)
            drops = self._read_descriptions(session)
            self._waiting, self._stale, self._set_aside = self._letters.read(session)
            self._parked.read(session, self._described)
            if read is not None:
                self._drops = drops
                self._drop_columns(session)
        except pymysql.MySQLError as error:
            raise self._failed(error) from error
        except BaseException:
            self.close()
            raise
        return found

    def _read_descriptions(self, session: Session) -> dict[TableId, list[str]]:
        """What the tables are, and which of their columns wait to be dropped."""
        found = self._tables.descriptions(session)
        self._described = {table: schema for table, (schema, _) in found.items()}
        self._renamed = {table: dict(pending.renames) for table, (_, pending) in found.items()}
        return {table: list(pending.drops) for table, (_, pending) in found.items() if pending.drops}

    def add_rows(self, places: Sequence[Place], epoch: int) -> None:
        session = self._open_session()
        try:
            session.run("START TRANSACTION")
            self._tables.add(session, places, epoch)
            session.run("COMMIT")
        except pymysql.MySQLError as error:
            raise self._failed(error) from error

    def refresh(self) -> None:
        session = self._open_session()
        self._applies = {}
        try:
            self._read_descriptions(session)
            _, self._stale, _ = self._letters.read(session)
        except pymysql.MySQLError as error:
            raise self._failed(error) from error

    def noted(self, letters: Sequence[DeadLetter]) -> None:
        session = self._open_session()
        try:
            self._letters.noted(session, letters)
        except pymysql.MySQLError as error:
            raise self._failed(error) from error

    def _looking(self, work: Callable[[Session], T]) -> T:
        try:
            return self._opened(work)
        finally:
            self.close()

    def _alone(self, work: Callable[[Session], T]) -> T:
        self.join()
        session = self._open_session()
        try:
            self._tables.read_rows(session, take_over=False)  # makes the row, if it is the first time
            session.run("START TRANSACTION")
            self._tables.lock_rows(session, take_over=True)
            self._read_descriptions(session)
            self._parked.read(session, self._described)
            self._parked.begin(allowed=False)
            done = work(session)
            self._commit(session)
        except pymysql.MySQLError as error:
            raise self._failed(error) from error
        finally:
            self.close()
        return done

    def _open_session(self) -> Session:
        if self._session is None:
            raise InvariantError("work before open")
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session, self._progress = None, None
        self._applies, self._renamed, self._ready, self._stages = {}, {}, set(), 0

    # ---- a batch

    def write(self, batch: SinkBatch) -> Applied:
        progress = self._progress
        if progress is None:
            raise InvariantError("write before open")
        move = whole(self._config.commit_topic, progress, batch.last_seq + 1, batch.position)
        applied = self.apply(batch, [move], progress.epoch)
        self._progress = Progress(batch.last_seq + 1, batch.position, progress.epoch)
        return applied

    def apply(self, batch: SinkBatch, moves: Sequence[Move], epoch: int, tables: Sequence[TableSchema] = ()) -> Applied:
        session = self._open_session()
        self._ran, self._ready = [], set()
        try:
            applied = self._apply_with_ddl(session, batch, moves, epoch, tables)
            self._commit(session)
            self._renamed = {}
            self._drop_columns(session)
            if batch.consistent:
                self._parked.drop(session)
        except pymysql.MySQLError as error:
            raise self._failed(error) from error
        except BaseException:
            self.close()
            raise
        for table, statement, action in self._ran:
            applied.table(table).changed(statement, action)
        return applied

    def _failed(self, error: pymysql.MySQLError) -> TailraceError:
        self.close()
        if number_of(error) in DUPLICATE and not self._careful:
            # A unique key that was not there when the table was looked at: once more, prepared for it.
            self._careful = True
            again = "a unique key may be new at the target"
            return TargetUnavailableError("the target refused the batch", detail=again, table=self._table)
        return statement_error(error, self._table)

    def _commit(self, session: Session) -> None:
        """The end of the transaction. A connection lost here leaves it open whether it was committed (rule D1)."""
        failpoint("sink.before_commit")
        try:
            session.run("COMMIT")
        except pymysql.MySQLError as error:
            if number_of(error) not in LOST and not isinstance(error, pymysql.err.InterfaceError):
                raise
            unknown = "the connection to the target was lost at COMMIT"
            raise OutcomeUnknownError(unknown, detail="its progress row decides what was applied") from error
        failpoint("sink.after_commit")

    def _apply_with_ddl(
        self, session: Session, batch: SinkBatch, moves: Sequence[Move], epoch: int, tables: Sequence[TableSchema]
    ) -> Applied:
        while True:
            self._table = None
            described, stale = dict(self._described), self._stale.copy()
            try:
                return self._apply(session, batch, moves, epoch, tables)
            except (_DdlDueError, ParkDueError) as due:
                session.run("ROLLBACK")
                self._described, self._stale = described, stale
                self._parked.undo()
                self._tables.check(session, moves, epoch)
                if isinstance(due, ParkDueError):
                    self._parked.make(session, due.table, batch.first_seq)
                else:
                    self._run_ddl(session, due)

    def _apply(
        self, session: Session, batch: SinkBatch, moves: Sequence[Move], epoch: int, tables: Sequence[TableSchema]
    ) -> Applied:
        session.run("START TRANSACTION")
        self._tables.take(session, moves, epoch)
        failpoint("sink.taken")
        self._parked.begin(allowed=batch.loading)
        for schema in tables:
            self._prepared(session, schema)
        applied = Applied()
        for slice_ in batch.slices():
            self._apply_slice(session, slice_, batch, applied)
        for source in self._parked.sources() if batch.consistent else ():
            self._table = self._config.target_of(source)
            self._parked.settle(session, self._prepared(session, self._described[source]))
        return applied

    def _attempt(
        self, session: Session, rows: Rows, keep: bool, batch: SinkBatch, applied: Applied
    ) -> EventError | Unclear | None:
        """See `dead_letter.Attempt`. A savepoint takes back the rows of stages, but not the stages."""
        done = Applied()
        verdict: EventError | Unclear | None = None
        parked = self._parked.state()
        session.run("SAVEPOINT tailrace_attempt")
        try:
            self._apply_rows(session, rows, batch, done)
        except pymysql.MySQLError as error:
            meaning = statement_error(error, self._table)
            unique = number_of(error) in DUPLICATE
            if not isinstance(meaning, EventError) or (unique and keep):
                raise
            verdict = UNCLEAR if unique else meaning
        except EventError as error:
            verdict = error
        if keep and verdict is None:
            applied.add(done)
        else:
            session.run("ROLLBACK TO SAVEPOINT tailrace_attempt")
            self._parked.restore(parked)
        return verdict

    def _apply_part(self, session: Session, schema: TableSchema, part: Part) -> Counts:
        table = self._prepared(session, schema)
        return (table.apply_keyed if schema.key else table.apply_keyless)(session, part.frames)

    def _actions(self, session: Session) -> MySqlActions:
        return MySqlActions(session, self._config)

    # ---- markers and tables

    def _apply_marker(self, session: Session, marker: Marker, batch: SinkBatch, applied: Applied) -> None:
        source = TableId(marker.schema, marker.table)
        self._table = self._config.target_of(source)
        if marker.kind in ("truncate", "reload"):
            if session.read_table(self._table) is not None:
                session.run(f"DELETE FROM {quoted(self._table)}")
            self._forget_stale(session, marker.topic, applied)
            self._parked.empty(session, source)
        elif marker.kind == "schema":
            schema = batch.schema(marker.data["value_schema_id"])
            if schema not in self._ready:
                raise _DdlDueError(schema, marker)
            self._described[source] = schema
            self._tables.describe(session, schema, Pending(tuple(self._drops.get(source, []))))
        elif marker.kind == "stopped":
            self._parked.give_up(session, source)
        else:
            raise InvariantError(f"a marker of unknown kind {marker.kind}")

    def _prepared(self, session: Session, schema: TableSchema) -> TableApply:
        """The table to apply events of `schema` with.

        Raises:
            _DdlDueError: it has to be made, or lacks columns that `schema` adds.
        """
        if schema not in self._applies:
            known = self._described.get(schema.table)
            if schema not in self._ready and (known is None or adds_columns(known, schema)):
                raise _DdlDueError(schema, None)
            names = self._renamed.get(schema.table, {})
            here = {column.name for column in schema.columns}
            names = {old: new for old, new in names.items() if old in here and new not in here}
            target = self._fitting(session, schema, names)
            self._stages += 1
            chunk = min(MAX_CHUNK, session.max_packet // 4)
            place = self._tables.progress.schema
            number, parked = self._stages, self._parked
            self._applies[schema] = TableApply(schema, target, number, place, chunk, names, self._careful, parked)
        return self._applies[schema]

    def _run_ddl(self, session: Session, due: _DdlDueError) -> None:
        """Bring the target to where rows under `due.schema` fit; rows under the one before still do."""
        schema, marker = due.schema, due.marker
        refuse_actions(schema, self._config)
        if self._config.consistency == "key":
            refuse(source_findings(schema))
        target = self._config.target_of(schema.table)
        self._table = target
        found = session.read_table(target)
        known = self._described.get(schema.table)
        statements: list[str] = []
        if found is None:
            if not session.has_database(target.schema):
                statements.append(create_database(target.schema, session.flavor))
            statements.append(create_table(schema, target, self._type_of(session, schema)))
        elif known is not None and known != schema:
            statements = self._alterations(session, found, known, schema, marker)
            if (parked := self._parked.found(session, schema.table)) is not None:
                statements += self._alterations(session, parked, known, schema, marker)
        # The batch empties the table, but not before this. Rows of a keyless one may be asked for again after a crash.
        may_empty = marker is not None and "reload" in marker.data and bool(schema.key)
        for statement in statements:
            self._run_statement(session, target, schema.table, statement, may_empty=may_empty)
        self._ready.add(schema)
        if statements:
            self._applies = {s: a for s, a in self._applies.items() if s.table != schema.table}
        self._fitting(session, schema, {})
        if marker is None:
            # At once, not with the batch: a change in the same batch starts from here.
            self._described[schema.table] = schema
            self._tables.describe(session, schema, Pending(tuple(self._drops.get(schema.table, []))))

    def _run_statement(
        self, session: Session, target: TableId, source: TableId, statement: str, *, may_empty: bool = False
    ) -> None:
        """`may_empty`: the table's rows are about to go anyway; they go first where they are in the way.

        Raises:
            TableStopError: the target refuses it (a value does not fit the new type …).
        """
        try:
            session.run(statement)
        except pymysql.MySQLError as error:
            if isinstance(error, (pymysql.err.InterfaceError, pymysql.err.ProgrammingError)):
                raise
            if isinstance(statement_error(error, target), TargetUnavailableError):
                raise
            if may_empty:
                session.run(f"DELETE FROM {quoted(target)}")
                self._run_statement(session, target, source, statement)
                return
            if self._config.schema_changes != "ignore-unsafe":
                detail = f"the target refuses the change, error {number_of(error)}"
                raise schema_stop(target, [statement], detail) from error
            self._ran.append((source, statement, "left out"))
            log_.warning("schema change left out", extra={"table": str(target), "ddl": statement})
        else:
            failpoint("sink.ddl")
            self._ran.append((source, statement, "applied"))
            log_.info("schema changed", extra={"table": str(target), "ddl": statement})

    @staticmethod
    def _type_of(session: Session, schema: TableSchema) -> Callable[[Column], str]:
        return lambda column: mysql_type(column, schema, session.flavor)

    def _alterations(
        self,
        session: Session,
        found: TargetTable,
        known: TableSchema,
        schema: TableSchema,
        marker: Marker | None,
    ) -> list[str]:
        data = {} if marker is None else marker.data
        operations = differences(known, schema, data.get("renamed"), data.get("defaults"))
        type_of = self._type_of(session, schema)
        if isinstance(operations, Ambiguous):
            if set(operations.added) <= set(found.columns):
                return []  # someone has altered the target by hand, as the stop asked for
            if self._config.schema_changes != "ignore-unsafe":
                came = [schema.column(name) for name in operations.added]
                raise ambiguous_stop(found.table, operations, came, type_of, quote)
            operations = unambiguous(operations, schema)
        if marker is None:
            operations = list[Operation](o for o in operations if not isinstance(o, DropColumn))
        if not data.get("reload"):
            self._refuse_unknown_defaults(session, found, operations, type_of)
        statements = before_batch(found, operations, type_of)
        drops = [operation.name for operation in operations if isinstance(operation, DropColumn)]
        if (statements or drops) and self._config.schema_changes == "stop":
            raise schema_stop(found.table, statements + after_batch(found, drops), "schema_changes is stop")
        renames = {o.old: o.new for o in operations if isinstance(o, RenameColumn)}
        if renames:
            # Before it is done: rows under the old name come again after a crash.
            self._renamed[schema.table] = renames
            self._tables.describe(session, known, Pending(renames=renames))
        if drops:
            self._drops[schema.table] = list(dict.fromkeys([*self._drops.get(schema.table, []), *drops]))
        return statements

    @staticmethod
    def _refuse_unknown_defaults(
        session: Session, found: TargetTable, operations: list[Operation], type_of: Callable[[Column], str]
    ) -> None:
        """
        Raises:
            TableStopError: rows that exist have a value at the source that nobody told.
        """
        column = untold(operations, found.columns)
        if column is not None and session.value(f"SELECT 1 FROM {quoted(found.table)} LIMIT 1") is not None:
            added = f"{quote(column.name)} {type_of(column)} NOT NULL DEFAULT …"
            raise schema_stop(found.table, [f"ALTER TABLE {quoted(found.table)} ADD COLUMN {added}"], UNKNOWN_DEFAULT)

    def _drop_columns(self, session: Session) -> None:
        """What was noted with a batch that is committed now."""
        for source, drops in list(self._drops.items()):
            schema = self._described.get(source)
            target = session.read_table(self._config.target_of(source))
            if schema is not None and target is not None:
                kept = {column.name for column in schema.columns}
                for found in filter(None, (target, self._parked.found(session, source))):
                    for statement in after_batch(found, [name for name in drops if name not in kept]):
                        self._run_statement(session, target.table, source, statement)
                self._tables.describe(session, schema, Pending())
            del self._drops[source]
            self._applies = {s: a for s, a in self._applies.items() if s.table != source}

    def _fitting(self, session: Session, schema: TableSchema, names: dict[str, str]) -> TargetTable:
        """
        Raises:
            TableStopError: the target table lacks a column, or is not transactional (code TARGET_MISFIT).
        """
        target = self._config.target_of(schema.table)
        found = session.read_table(target)
        if found is None:
            raise _misfit(f'table "{target}" is gone from the target', LOAD_AGAIN, target, None)
        if found.engine.upper() != "INNODB":
            hint = f"ALTER TABLE {quoted(target)} ENGINE = InnoDB"
            raise _misfit(f'table "{target}" has no transactions (engine {found.engine})', hint, target, None)
        lacking = [c for c in schema.columns if names.get(c.name, c.name) not in found.columns]
        if lacking:
            type_of = self._type_of(session, schema)
            adds = ", ".join(f"ADD COLUMN {quote(c.name)} {type_of(c)}" for c in lacking)
            listed = ", ".join(f"column {quote(c.name)}" for c in lacking)
            message = f'table "{target}" at the target lacks {listed}'
            raise _misfit(message, f"ALTER TABLE {quoted(target)} {adds}", target, lacking[0].name)
        given = {names.get(c.name, c.name) for c in schema.columns}
        for column in found.columns.values():
            if column.name not in given and not (column.nullable or column.has_default or column.generated):
                message = f'table "{target}" has a NOT NULL column the source does not have: {column.name}'
                hint = f"ALTER TABLE {quoted(target)} MODIFY {quote(column.name)} {column.type} NULL"
                raise _misfit(message, hint, target, column.name)
        if self._config.consistency == "key":
            refuse([*source_findings(schema), *target_findings(schema, key_facts(session, schema, found))])
        return found

    def findings(self, schemas: list[TableSchema]) -> list[Finding]:
        from tailrace_sinks.mysql_preflight import findings

        session = Session(self._url, self._config.connect_timeout)
        try:
            return findings(session, self._config, self._tables, schemas)
        except pymysql.MySQLError as error:
            raise statement_error(error, None) from error
        finally:
            session.close()


def _misfit(message: str, hint: str, table: TableId, column: str | None) -> TableStopError:
    return TableStopError(message, code="TARGET_MISFIT", hint=hint, table=table, column=column)


__all__ = ["MySqlSink", "forget_pipeline", "open_sink"]
