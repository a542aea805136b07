"""The Postgres sink: one connection, one target transaction per batch, progress inside it.

Source of facts: PostgreSQL manual (14 to 18), "INSERT … ON CONFLICT", "COPY", "session_replication_role".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg

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
from tailrace_schemas.uri import DatabaseUrl, libpq_parameters
from tailrace_sinks.batch_apply import BatchApply, adds_columns
from tailrace_sinks.cascade import refuse_actions
from tailrace_sinks.dead_letter import UNCLEAR, Unclear
from tailrace_sinks.decode import Counts
from tailrace_sinks.envelope import Q_RAW
from tailrace_sinks.evolution import UNKNOWN_DEFAULT, Ambiguous, differences, unambiguous, untold
from tailrace_sinks.key_rules import refuse, source_findings, target_findings
from tailrace_sinks.lanes import LanesSink
from tailrace_sinks.parked import refuse_lanes
from tailrace_sinks.plan import POSTGRES
from tailrace_sinks.postgres_apply import PostgresActions, TableApply
from tailrace_sinks.postgres_catalog import (
    Connection,
    TargetTable,
    alter,
    create_table,
    key_facts,
    quote,
    quoted,
    read_table,
    sql,
    target_type,
)
from tailrace_sinks.postgres_errors import connect_error, statement_error
from tailrace_sinks.postgres_letters import PostgresLetters
from tailrace_sinks.postgres_parked import ParkedTables, forget_parked
from tailrace_sinks.postgres_progress import ProgressTables, forget, progress_table
from tailrace_sinks.progress import Held, Move, Place, whole
from tailrace_sinks.rows import Part
from tailrace_sinks.schema_stops import ambiguous_stop, schema_stop
from tailrace_sinks.sink import Applied, DdlAction, Progress, Rows, Sink, SinkBatch, SinkConfig

T = TypeVar("T")
log_ = logging.getLogger(__name__)

# jit and a generic plan made while the table was empty each cost more than the statements themselves; an index scan is
# always right for staged keys, and the planner cannot know it from an unanalysed stage.
_SESSION = """
set jit = off; set plan_cache_mode = force_custom_plan; set enable_seqscan = off; set synchronous_commit = on;
set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set extra_float_digits = 1;
set bytea_output = hex; set standard_conforming_strings = on; set client_min_messages = warning;
set lock_timeout = '60s'; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0
"""
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def open_sink(url: DatabaseUrl, config: SinkConfig) -> Sink:
    """A sink that connects at `open`. `url` has its password resolved.

    Raises:
        ConfigError: an option of the URL or of `config` cannot be had.
    """
    config.check()
    if config.consistency == "key":
        return LanesSink([PostgresSink(url, config) for _ in range(config.connections)], config)
    return PostgresSink(url, config)


def forget_pipeline(url: DatabaseUrl, pipeline: str, connect_timeout: float = 10.0) -> int:
    """Remove a pipeline's progress and parked rows from the target; the number of sinks forgotten.

    Raises:
        TargetUnavailableError, ConfigError, StopError: see `Sink.open`.
    """
    connection = connect(url, connect_timeout)
    try:
        with connection, connection.transaction():
            progress = progress_table(url.options.get("progress"))
            forget_parked(connection, progress, pipeline)
            return forget(connection, progress, pipeline)
    except psycopg.Error as error:
        raise statement_error(error, None, broken=connection.broken) from error


def connect(url: DatabaseUrl, timeout: float) -> Connection:
    """A connection with the session settings of a sink.

    Raises:
        TargetUnavailableError, ConfigError: see `postgres_errors.connect_error`.
    """
    parameters: dict[str, Any] = libpq_parameters(url) | _KEEPALIVE
    parameters |= {"connect_timeout": str(max(2, int(timeout))), "application_name": "tailrace sink"}
    try:
        connection = psycopg.connect(**parameters, client_encoding="UTF8", prepare_threshold=None, autocommit=True)
    except psycopg.Error as error:
        raise connect_error(error, url.place) from error
    try:
        connection.execute(sql(_SESSION))
    except psycopg.Error as error:
        connection.close()
        raise statement_error(error, None, broken=connection.broken) from error
    return connection


class PostgresSink(BatchApply[Connection]):
    """See `sink.Sink` and `lanes.Lane`. After any error the connection is dropped and `open` makes a new one."""

    dialect, quoting = POSTGRES, Q_RAW

    def __init__(self, url: DatabaseUrl, config: SinkConfig) -> None:
        self._url = url
        self._tables = ProgressTables(progress_table(url.options.get("progress")), config)
        self._letters = PostgresLetters(self._tables.progress, config)
        self._parked = ParkedTables(self._tables.progress, config)
        super().__init__(config, self._letters, self._parked)
        self._connection: Connection | None = None
        self._progress: Progress | None = None
        self._applies: dict[TableSchema, TableApply] = {}
        self._stages = 0
        self._careful = False
        self._is_replica = False

    def open(self, *, take_over: bool) -> Progress:
        found = self._opened(lambda connection: self._tables.read(connection, take_over=take_over))
        self._progress = self._with_letters(found)
        return self._progress

    def lead(self, *, take_over: bool) -> Held:
        held = self._opened(lambda connection: self._tables.read_rows(connection, take_over=take_over))
        refuse_lanes(self._parked.sources())
        return Held(self._with_letters(held.progress), held.rows)

    def join(self) -> None:
        self._opened(lambda _: None)

    def _opened(self, read: Callable[[Connection], T]) -> T:
        """A new connection, and what `read` finds over it."""
        self.close()
        connection = connect(self._url, self._config.connect_timeout)
        self._connection = connection
        try:
            with connection.transaction():
                self._tables.make(connection)
                found = read(connection)
                self._described = self._tables.descriptions(connection)
                self._waiting, self._stale, self._set_aside = self._letters.read(connection)
                self._parked.read(connection, self._described)
            self._become_replica(connection)
        except psycopg.Error as error:
            raise self._failed(error) from error
        except TailraceError:
            self.close()
            raise
        return found

    def add_rows(self, places: Sequence[Place], epoch: int) -> None:
        connection = self._open_connection()
        try:
            with connection.transaction():
                self._tables.add(connection, places, epoch)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def refresh(self) -> None:
        connection = self._open_connection()
        self._applies = {}
        try:
            self._described = self._tables.descriptions(connection)
            _, self._stale, _ = self._letters.read(connection)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def noted(self, letters: Sequence[DeadLetter]) -> None:
        connection = self._open_connection()
        try:
            with connection.transaction():
                self._letters.noted(connection, letters)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _looking(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._opened(work)
        finally:
            self.close()

    def _alone(self, work: Callable[[Connection], T]) -> T:
        self.close()
        connection = connect(self._url, self._config.connect_timeout)
        self._connection = connection
        try:
            self._become_replica(connection)
            connection.execute("begin")
            self._tables.read_rows(connection, take_over=True)
            self._described = self._tables.descriptions(connection)
            self._parked.read(connection, self._described)
            self._parked.allowed = False
            done = work(connection)
        except psycopg.Error as error:
            raise self._failed(error) from error
        except BaseException:
            self.close()
            raise
        self._commit(connection)
        self.close()
        return done

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise InvariantError("work before open")
        return self._connection

    def _become_replica(self, connection: Connection) -> None:
        """Triggers and foreign keys of the target do not fire, but for those enabled ALWAYS or REPLICA."""
        try:
            connection.execute("set session_replication_role = replica")
            self._is_replica = True
        except psycopg.errors.InsufficientPrivilege:
            self._is_replica = False
            remedy = f"GRANT SET ON PARAMETER session_replication_role TO {quote(connection.info.user)}"
            log_.warning("triggers and foreign keys fire at the target", extra={"remedy": remedy})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._progress = None, None
        self._applies, self._stages = {}, 0

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
        connection = self._open_connection()
        self._table = None
        try:
            applied = self._apply(connection, batch, moves, epoch, tables)
        except psycopg.Error as error:
            raise self._failed(error) from error
        except BaseException:
            self.close()
            raise
        self._commit(connection)
        return applied

    def _failed(self, error: psycopg.Error) -> TailraceError:
        assert self._connection is not None
        broken = self._connection.broken or self._connection.closed
        self.close()
        if isinstance(error, (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation)) and not self._careful:
            # A constraint that was not there when the table was looked at: once more, prepared for it.
            self._careful = True
            again = "a unique constraint may be new at the target"
            return TargetUnavailableError("the target refused the batch", detail=again, table=self._table)
        return statement_error(error, self._table, broken=broken)

    def _commit(self, connection: Connection) -> None:
        """The end of the transaction. A connection lost here leaves it open whether it was committed (rule D1)."""
        failpoint("sink.before_commit")
        try:
            connection.execute("commit")
        except psycopg.Error as error:
            lost = connection.broken or connection.closed or not error.sqlstate or error.sqlstate[:2] in ("08", "57")
            failed = self._failed(error)
            if lost:
                unknown = "the connection to the target was lost at COMMIT"
                raise OutcomeUnknownError(unknown, detail="its progress row decides what was applied") from error
            raise failed from error
        failpoint("sink.after_commit")

    def _apply(
        self, connection: Connection, batch: SinkBatch, moves: Sequence[Move], epoch: int, tables: Sequence[TableSchema]
    ) -> Applied:
        connection.execute("begin")
        self._tables.take(connection, moves, epoch)
        if not self._is_replica:
            # Tables are applied one after the other; keys that may wait hold again at COMMIT.
            connection.execute("set constraints all deferred")
        failpoint("sink.taken")
        for stage in self._applies.values():
            stage.stage_is_dirty = False
        applied = Applied()
        for schema in tables:
            self._table = self._config.target_of(schema.table)
            self._prepared(connection, schema)
        self._parked.allowed = batch.loading
        for slice_ in batch.slices():
            self._apply_slice(connection, slice_, batch, applied)
        for source in self._parked.sources() if batch.consistent else ():
            self._table = self._config.target_of(source)
            self._parked.settle(connection, self._prepared(connection, self._described[source]))
        return applied

    def _attempt(
        self, connection: Connection, rows: Rows, keep: bool, batch: SinkBatch, applied: Applied
    ) -> EventError | Unclear | None:
        """See `dead_letter.Attempt`. A savepoint takes back the stages as well, so what is known of them."""
        stages = [(table, table.has_stage, table.stage_is_dirty) for table in self._applies.values()]
        parked = self._parked.state()
        done = Applied()
        verdict: EventError | Unclear | None = None
        try:
            with connection.transaction(force_rollback=not keep):
                self._apply_rows(connection, rows, batch, done)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation):
            if keep:
                raise
            verdict = UNCLEAR
        except psycopg.Error as error:
            meaning = statement_error(error, self._table, broken=connection.broken)
            if not isinstance(meaning, EventError):
                raise
            verdict = meaning
        except EventError as error:
            verdict = error
        if keep and verdict is None:
            applied.add(done)
        else:
            for table, has_stage, is_dirty in stages:
                table.has_stage, table.stage_is_dirty = has_stage, is_dirty
            self._parked.restore(parked)
        return verdict

    def _apply_part(self, connection: Connection, schema: TableSchema, part: Part) -> Counts:
        table = self._prepared(connection, schema)
        if schema.key:
            return table.apply_keyed(connection, part.frames, loaded=part.loaded)
        return table.apply_keyless(connection, part.frames)

    def _actions(self, connection: Connection) -> PostgresActions:
        return PostgresActions(connection, self._config)

    # ---- markers and tables

    def _apply_marker(self, connection: Connection, marker: Marker, batch: SinkBatch, applied: Applied) -> None:
        source = TableId(marker.schema, marker.table)
        self._table = self._config.target_of(source)
        if marker.kind in ("truncate", "reload"):
            self._empty(connection, self._table)
            self._forget_stale(connection, marker.topic, applied)
            self._parked.drop(connection, source)
        elif marker.kind == "schema":
            schema = batch.schema(marker.data["value_schema_id"])
            done = self._change_schema(connection, schema, marker.data.get("renamed"), marker.data.get("defaults"))
            for statement, action in done:
                applied.table(source).changed(statement, action)
        elif marker.kind == "stopped":
            self._parked.give_up(connection, source)
        else:
            raise InvariantError(f"a marker of unknown kind {marker.kind}")

    def _empty(self, connection: Connection, target: TableId) -> None:
        """TRUNCATE refuses tables that others reference, and it is not one for readers with an older snapshot."""
        table = read_table(connection, target)
        if table is None:
            return
        if table.referenced or table.kind not in ("r", "p"):
            connection.execute(sql(f"DELETE FROM {quoted(target)}"))
        else:
            connection.execute(sql(f"TRUNCATE {quoted(target)}"))

    def _prepared(self, connection: Connection, schema: TableSchema) -> TableApply:
        """The table to apply events of `schema` with; it exists and fits afterwards."""
        if schema not in self._applies:
            known = self._described.get(schema.table)
            if known is None or adds_columns(known, schema):
                self._change_schema(connection, schema, None, None)
            target = self._fitting(connection, schema)
            self._stages += 1
            zero = self._config.zero_dates == "null"
            self._applies[schema] = TableApply(schema, target, self._stages, self._careful, zero, self._parked)
        return self._applies[schema]

    def _change_schema(
        self,
        connection: Connection,
        schema: TableSchema,
        renamed: dict[str, str] | None,
        defaults: dict[str, str] | None,
    ) -> list[tuple[str, DdlAction]]:
        """Create the table, or bring it from the description last applied to `schema`; the statements, and what became
        of each."""
        refuse_actions(schema, self._config)
        if self._config.consistency == "key":
            refuse(source_findings(schema))
        target = self._config.target_of(schema.table)
        known = self._described.get(schema.table)
        found = read_table(connection, target)
        statements: list[str] = []
        if found is None:
            statements = self._creation(connection, schema, target)
        elif known is not None and known != schema:
            statements = self._alterations(connection, found, known, schema, renamed, defaults)
            if (parked := self._parked.found(connection, schema.table)) is not None:
                statements += self._alterations(connection, parked, known, schema, renamed, defaults)
        done = [(statement, self._run_ddl(connection, target, statement)) for statement in statements]
        self._fitting(connection, schema)
        self._tables.describe(connection, schema)
        self._described[schema.table] = schema
        if statements:
            self._applies = {s: a for s, a in self._applies.items() if s.table != schema.table}
        return done

    def _creation(self, connection: Connection, schema: TableSchema, target: TableId) -> list[str]:
        out = []
        exists = connection.execute("select to_regnamespace(%s) is not null", [quote(target.schema)]).fetchone()
        if exists and not exists[0]:
            out.append(f"CREATE SCHEMA IF NOT EXISTS {quote(target.schema)}")
        return [*out, create_table(schema, target, self._type_of(connection, schema))]

    @staticmethod
    def _type_of(connection: Connection, schema: TableSchema) -> Callable[[Column], str]:
        return lambda column: target_type(connection, column, schema.engine)

    def _alterations(
        self,
        connection: Connection,
        found: TargetTable,
        known: TableSchema,
        schema: TableSchema,
        renamed: dict[str, str] | None,
        defaults: dict[str, str] | None,
    ) -> list[str]:
        operations = differences(known, schema, renamed, defaults)
        type_of = self._type_of(connection, schema)
        if isinstance(operations, Ambiguous):
            if set(operations.added) <= set(found.columns):
                return []  # someone has altered the target by hand, as the stop asked for
            if self._config.schema_changes != "ignore-unsafe":
                came = [schema.column(name) for name in operations.added]
                raise ambiguous_stop(found.table, operations, came, type_of, quote)
            operations = unambiguous(operations, schema)
        column = untold(operations, found.columns)
        if column is not None and connection.execute(sql(f"SELECT 1 FROM {quoted(found.table)} LIMIT 1")).fetchone():
            added = f"{quote(column.name)} {type_of(column)} NOT NULL DEFAULT …"
            raise schema_stop(found.table, [f"ALTER TABLE {quoted(found.table)} ADD COLUMN {added}"], UNKNOWN_DEFAULT)
        statements = [s for operation in operations for s in alter(found, operation, type_of)]
        if statements and self._config.schema_changes == "stop":
            raise schema_stop(found.table, statements, "schema_changes is stop")
        return statements

    def _run_ddl(self, connection: Connection, target: TableId, statement: str) -> DdlAction:
        """
        Raises:
            TableStopError: the target refuses it (a view depends on the column, a value has no cast …).
        """
        try:
            with connection.transaction():
                connection.execute(sql(statement))
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] not in ("0A", "22", "23", "2B", "42"):
                raise
            if error.sqlstate == "42501":
                raise
            if self._config.schema_changes != "ignore-unsafe":
                detail = f"the target refuses the change, SQLSTATE {error.sqlstate}"
                raise schema_stop(target, [statement], detail) from error
            log_.warning("schema change left out", extra={"table": str(target), "ddl": statement})
            return "left out"
        failpoint("sink.ddl")
        log_.info("schema changed", extra={"table": str(target), "ddl": statement})
        return "applied"

    def _fitting(self, connection: Connection, schema: TableSchema) -> TargetTable:
        """
        Raises:
            TableStopError: the target table lacks a column (code TARGET_MISFIT).
        """
        target = self._config.target_of(schema.table)
        found = read_table(connection, target)
        if found is None:
            raise TableStopError(
                f'table "{target}" is gone from the target',
                code="TARGET_MISFIT",
                hint=LOAD_AGAIN,
                table=target,
            )
        lacking = [column for column in schema.columns if column.name not in found.columns]
        if lacking:
            type_of = self._type_of(connection, schema)
            adds = ", ".join(f"ADD COLUMN {quote(c.name)} {type_of(c)}" for c in lacking)
            raise TableStopError(
                f'table "{target}" at the target lacks {", ".join(f"column {quote(c.name)}" for c in lacking)}',
                code="TARGET_MISFIT",
                hint=f"ALTER TABLE {quoted(target)} {adds}",
                table=target,
                column=lacking[0].name,
            )
        needed = [
            c.name
            for c in found.columns.values()
            if c.not_null and not c.has_default and not c.generated and c.name not in {x.name for x in schema.columns}
        ]
        if needed:
            raise TableStopError(
                f'table "{target}" has NOT NULL columns the source does not have: {", ".join(needed)}',
                code="TARGET_MISFIT",
                hint=f"ALTER TABLE {quoted(target)} ALTER COLUMN {quote(needed[0])} DROP NOT NULL",
                table=target,
                column=needed[0],
            )
        if self._config.consistency == "key":
            refuse([*source_findings(schema), *target_findings(schema, key_facts(connection, schema, found))])
        return found

    def findings(self, schemas: list[TableSchema]) -> list[Finding]:
        connection = connect(self._url, self._config.connect_timeout)
        try:
            with connection:
                return self._findings(connection, schemas)
        except psycopg.Error as error:
            raise statement_error(error, None, broken=connection.broken) from error

    def _findings(self, connection: Connection, schemas: list[TableSchema]) -> list[Finding]:
        from tailrace_sinks.postgres_preflight import findings

        return findings(connection, self._config, self._tables, schemas)


__all__ = ["PostgresSink", "connect", "forget_pipeline", "open_sink"]
