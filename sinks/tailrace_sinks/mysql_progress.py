"""A sink's progress in a MySQL or MariaDB target, and the descriptions of the tables it has applied.

Two tables in database `tailrace` unless the URL says `?progress=database.table`; see postgres_progress, whose twin this
is. `pending` of `<progress>_tables` holds what DDL that commits by itself leaves open (rule D6): columns to be dropped
after the batch it was noted with, and columns renamed before the batch that is still to come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tailrace_schemas.errors import ConfigError, FencedError, InvariantError, StopError
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks.mysql_catalog import create_database
from tailrace_sinks.mysql_session import Session, literal, quote, quoted
from tailrace_sinks.sink import Progress, SinkConfig

_COLUMNS = """(
  pipeline varchar(100) NOT NULL, sink varchar(100) NOT NULL, topic varchar(249) NOT NULL, `partition` int NOT NULL,
  next_offset bigint NOT NULL, commit_seq bigint NOT NULL, position longtext NOT NULL,
  log_id varchar(200) NOT NULL, epoch bigint NOT NULL, updated_at datetime(6) NOT NULL,
  PRIMARY KEY (pipeline, sink, topic, `partition`)) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"""
_TABLE_COLUMNS = """(
  pipeline varchar(100) NOT NULL, sink varchar(100) NOT NULL,
  source_schema varchar(128) NOT NULL, source_table varchar(128) NOT NULL,
  description longtext NOT NULL, pending longtext NOT NULL, updated_at datetime(6) NOT NULL,
  PRIMARY KEY (pipeline, sink, source_schema, source_table))
  ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"""


@dataclass(frozen=True, slots=True)
class Pending:
    """`drops`: columns that go after the batch. `renames`: old name → new name, done at the target already, while rows
    under the old name are still to come."""

    drops: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps({"drops": self.drops, "renames": dict(self.renames)})

    @staticmethod
    def parse(text: str) -> Pending:
        data = json.loads(text)
        return Pending(tuple(data["drops"]), data["renames"])


@dataclass(frozen=True, slots=True)
class ProgressTables:
    """The two tables, and which rows of them belong to this sink."""

    progress: TableId
    config: SinkConfig

    @property
    def described(self) -> TableId:
        return TableId(self.progress.schema, f"{self.progress.name}_tables")

    def make(self, session: Session) -> None:
        if not session.has_database(self.progress.schema):
            session.run(create_database(self.progress.schema, session.flavor))
        for table, columns in ((self.progress, _COLUMNS), (self.described, _TABLE_COLUMNS)):
            if session.read_table(table) is None:
                session.run(f"CREATE TABLE IF NOT EXISTS {quoted(table)} {columns}")

    @property
    def _ours(self) -> str:
        config = self.config
        names = f"pipeline = {literal(config.pipeline)} AND sink = {literal(config.name)}"
        return f"{names} AND topic = {literal(config.commit_topic)} AND `partition` = 0"

    @property
    def _values(self) -> str:
        return f"{literal(self.config.pipeline)}, {literal(self.config.name)}"

    def read(self, session: Session, *, take_over: bool) -> Progress:
        """The sink's row, made where there is none; with `take_over` under a new epoch.

        Raises:
            StopError: the row was written from another log (code FOREIGN_LOG).
        """
        table, config = quoted(self.progress), self.config
        # Not INSERT IGNORE, which would turn other errors into warnings as well.
        session.run(
            f"INSERT INTO {table} VALUES ({self._values}, {literal(config.commit_topic)}, 0, 0, -1, '',"
            f" {literal(config.log_id)}, 0, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE epoch = epoch + {int(take_over)}"
        )
        found = session.rows(f"SELECT next_offset, position, epoch, log_id FROM {table} WHERE {self._ours}")
        if not found:
            raise InvariantError("the progress row of this sink vanished")
        next_seq, position, epoch, log_id = found[0]
        if log_id != config.log_id:
            raise self._foreign(str(log_id))
        return Progress(int(str(next_seq)), str(position), int(str(epoch)))

    def _foreign(self, held: str) -> StopError:
        return StopError(
            "the target's progress belongs to another log",
            code="FOREIGN_LOG",
            detail=f"the target holds log {held}, this log is {self.config.log_id}: it was deleted and made again",
            hint=f"to load everything anew: DELETE FROM {quoted(self.progress)} WHERE {self._ours}",
        )

    def take(self, session: Session, held: Progress, next_seq: int, position: str) -> None:
        """The first statement of every target transaction: compare-and-set (rule D1).

        Raises:
            FencedError: the row is not the one held.
        """
        count = session.run(
            f"UPDATE {quoted(self.progress)} SET next_offset = {next_seq}, commit_seq = {next_seq - 1},"
            f" position = {literal(position)}, updated_at = UTC_TIMESTAMP(6)"
            f" WHERE {self._ours} AND next_offset = {held.next_seq} AND epoch = {held.epoch}"
        )
        if count != 1:
            raise fenced(held)

    def check(self, session: Session, held: Progress) -> None:
        """The same question before a statement that no transaction protects.

        Raises:
            FencedError: the row is not the one held.
        """
        found = session.rows(f"SELECT next_offset, epoch FROM {quoted(self.progress)} WHERE {self._ours}")
        if not found or found[0] != (held.next_seq, held.epoch):
            raise fenced(held)

    def descriptions(self, session: Session) -> dict[TableId, tuple[TableSchema, Pending]]:
        """Source table → the schema last applied to its target, and what is pending there."""
        rows = session.rows(
            f"SELECT description, pending FROM {quoted(self.described)}"
            f" WHERE pipeline = {literal(self.config.pipeline)} AND sink = {literal(self.config.name)}"
        )
        found = [(TableSchema.from_json(json.loads(str(text))), Pending.parse(str(pending))) for text, pending in rows]
        return {schema.table: (schema, pending) for schema, pending in found}

    def describe(self, session: Session, schema: TableSchema, pending_steps: Pending) -> None:
        table, description = quoted(self.described), literal(json.dumps(schema.to_json()))
        names = f"{literal(schema.table.schema)}, {literal(schema.table.name)}"
        pending = literal(pending_steps.text())
        session.run(
            f"INSERT INTO {table} VALUES ({self._values}, {names}, {description}, {pending}, UTC_TIMESTAMP(6))"
            f" ON DUPLICATE KEY UPDATE description = {description}, pending = {pending}, updated_at = UTC_TIMESTAMP(6)"
        )


def fenced(held: Progress) -> FencedError:
    return FencedError(
        "another process applies this sink's batches",
        detail=f"it has passed commit record {held.next_seq}, or taken the sink over",
    )


def progress_table(option: str | None) -> TableId:
    """From the URL's `progress` option.

    Raises:
        ConfigError: not `database.table`.
    """
    if option is None:
        return TableId("tailrace", "progress")
    schema, dot, table = option.partition(".")
    if not (schema and dot and table):
        raise ConfigError(f"progress={option} is not database.table")
    return TableId(schema, table)


def forget(session: Session, progress: TableId, pipeline: str) -> int:
    """Remove a pipeline's rows from both tables; the number of sinks forgotten. The next start loads anew."""
    removed = 0
    for table in (progress, TableId(progress.schema, f"{progress.name}_tables")):
        if session.read_table(table) is not None:
            count = session.run(f"DELETE FROM {quoted(table)} WHERE {quote('pipeline')} = {literal(pipeline)}")
            removed = max(removed, count) if table == progress else removed
    return removed
