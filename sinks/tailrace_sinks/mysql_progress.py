"""A sink's progress in a MySQL or MariaDB target, and the descriptions of the tables it has applied.

Two tables in database `tailrace` unless the URL says `?progress=database.table`; see postgres_progress, whose twin this
is. `pending` of `<progress>_tables` holds what DDL that commits by itself leaves open (rule D6): columns to be dropped
after the batch it was noted with, and columns renamed before the batch that is still to come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tailrace_schemas.errors import ConfigError, InvariantError, StopError
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks.mysql_catalog import create_database
from tailrace_sinks.mysql_session import Session, literal, quote, quoted
from tailrace_sinks.progress import WHOLE, Held, Move, Place, Row, fenced, refuse_half_applied
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

    def begun(self, session: Session) -> bool:
        """Whether this sink has written here before."""
        if session.read_table(self.progress) is None:
            return False
        return bool(session.rows(f"SELECT 1 FROM {quoted(self.progress)} WHERE {self._ours} LIMIT 1"))

    @property
    def _ours(self) -> str:
        return f"pipeline = {literal(self.config.pipeline)} AND sink = {literal(self.config.name)}"

    def _at(self, place: Place) -> str:
        return f"{self._ours} AND topic = {literal(place.topic)} AND `partition` = {place.partition}"

    @property
    def _whole(self) -> Place:
        return Place(self.config.commit_topic, WHOLE)

    @property
    def _values(self) -> str:
        return f"{literal(self.config.pipeline)}, {literal(self.config.name)}"

    def read(self, session: Session, *, take_over: bool) -> Progress:
        """The sink's row, made where there is none; with `take_over` under a new epoch.

        Raises:
            StopError: the row was written from another log (code FOREIGN_LOG), or the rows of `consistency: key` are
                ahead of it (code CONSISTENCY).
        """
        held = self.read_rows(session, take_over=take_over)
        refuse_half_applied(held.progress, held.rows.values())
        if held.rows:
            session.run(f"DELETE FROM {quoted(self.progress)} WHERE {self._ours} AND NOT ({self._at(self._whole)})")
        return held.progress

    def read_rows(self, session: Session, *, take_over: bool) -> Held:
        """All rows of the sink, that of whole commit records made where there is none.

        Raises:
            StopError: written from another log (code FOREIGN_LOG).
        """
        self._insert(session, self._whole, 0)
        session.run("START TRANSACTION")
        held = self.lock_rows(session, take_over=take_over)
        session.run("COMMIT")
        return held

    def lock_rows(self, session: Session, *, take_over: bool) -> Held:
        """As `read_rows`, inside a transaction that the caller began and commits.

        Raises:
            StopError: as there.
        """
        table, whole_row = quoted(self.progress), self._at(self._whole)
        session.run(f"UPDATE {table} SET epoch = epoch + {int(take_over)} WHERE {whole_row}")
        found = session.rows(f"SELECT next_offset, position, epoch, log_id FROM {table} WHERE {whole_row}")
        if not found:
            raise InvariantError("the progress row of this sink vanished")
        next_seq, position, epoch, log_id = found[0]
        # Behind the lock of the row above, so that none is missed that an older process is just making (see `add`).
        session.run(f"UPDATE {table} SET epoch = {epoch} WHERE {self._ours} AND NOT ({whole_row})")
        rows = session.rows(
            f"SELECT topic, `partition`, next_offset, commit_seq, log_id FROM {table}"
            f" WHERE {self._ours} AND NOT ({whole_row})"
        )
        foreign = [str(other) for other in (log_id, *(row[4] for row in rows)) if other != self.config.log_id]
        if foreign:
            raise self._foreign(foreign[0])
        held = {
            Place(str(topic), int(str(partition))): Row(int(str(offset)), int(str(seq)))
            for topic, partition, offset, seq, _ in rows
        }
        return Held(Progress(int(str(next_seq)), str(position), int(str(epoch))), held)

    def _insert(self, session: Session, place: Place, epoch: int) -> None:
        # Not INSERT IGNORE, which would turn other errors into warnings as well.
        session.run(
            f"INSERT INTO {quoted(self.progress)} VALUES ({self._values}, {literal(place.topic)}, {place.partition},"
            f" 0, -1, '', {literal(self.config.log_id)}, {epoch}, UTC_TIMESTAMP(6))"
            " ON DUPLICATE KEY UPDATE epoch = epoch"
        )

    def add(self, session: Session, places: Sequence[Place], epoch: int) -> None:
        """Rows for partitions that had none, unless the sink was taken over: its new owner has not seen them.

        Raises:
            FencedError: it was.
        """
        count = session.run(
            f"UPDATE {quoted(self.progress)} SET updated_at = UTC_TIMESTAMP(6)"
            f" WHERE {self._at(self._whole)} AND epoch = {epoch}"
        )
        if count != 1:
            raise fenced([])
        for place in places:
            self._insert(session, place, epoch)

    def _foreign(self, held: str) -> StopError:
        return StopError(
            "the target's progress belongs to another log",
            code="FOREIGN_LOG",
            detail=f"the target holds log {held}, this log is {self.config.log_id}: it was deleted and made again",
            hint=f"to load everything anew: DELETE FROM {quoted(self.progress)} WHERE {self._ours}",
        )

    def take(self, session: Session, moves: Sequence[Move], epoch: int) -> None:
        """The first statements of every target transaction: compare-and-set (rule D1). One by one: a join over all of
        them may be planned as a scan, which waits for the rows of other connections.

        Raises:
            FencedError: a row is not the one held.
        """
        for move in moves:
            count = session.run(
                f"UPDATE {quoted(self.progress)} SET next_offset = {move.then.next_offset},"
                f" commit_seq = {move.then.commit_seq}, position = {literal(move.position)},"
                f" updated_at = UTC_TIMESTAMP(6) WHERE {self._held(move, epoch)}"
            )
            if count != 1:
                raise fenced([move])

    def check(self, session: Session, moves: Sequence[Move], epoch: int) -> None:
        """The same question before a statement that no transaction protects.

        Raises:
            FencedError: a row is not the one held.
        """
        for move in moves:
            if session.value(f"SELECT 1 FROM {quoted(self.progress)} WHERE {self._held(move, epoch)}") is None:
                raise fenced([move])

    def _held(self, move: Move, epoch: int) -> str:
        held = move.held
        rows = f"next_offset = {held.next_offset} AND commit_seq = {held.commit_seq}"
        return f"{self._at(move.place)} AND {rows} AND epoch = {epoch}"

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
    for table in (
        progress,
        *(TableId(progress.schema, f"{progress.name}_{more}") for more in ("tables", "dead_letters")),
    ):
        if session.read_table(table) is not None:
            count = session.run(f"DELETE FROM {quoted(table)} WHERE {quote('pipeline')} = {literal(pipeline)}")
            removed = max(removed, count) if table == progress else removed
    return removed
