"""A sink's progress in a Postgres target, and the descriptions of the tables it has applied.

Two tables, in schema `tailrace` unless the URL says `?progress=schema.table`: the progress table of interfaces.md, and
beside it `<progress>_tables`, which holds per source table the TableSchema last applied. From the difference to a new
one follows what to alter, also after a restart; foreign keys in it say which actions the sink has to execute.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tailrace_schemas.errors import ConfigError, InvariantError, StopError
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks.postgres_catalog import Connection, quote, quoted, sql
from tailrace_sinks.progress import Held, Move, Place, Row, fenced, refuse_half_applied
from tailrace_sinks.sink import Progress, SinkConfig

_COLUMNS = """(
  pipeline text NOT NULL, sink text NOT NULL, topic text NOT NULL, "partition" integer NOT NULL,
  next_offset bigint NOT NULL, commit_seq bigint NOT NULL, position text NOT NULL,
  log_id text NOT NULL, epoch bigint NOT NULL, updated_at timestamptz NOT NULL,
  PRIMARY KEY (pipeline, sink, topic, "partition"))"""
_TABLE_COLUMNS = """(
  pipeline text NOT NULL, sink text NOT NULL, source_schema text NOT NULL, source_table text NOT NULL,
  description text NOT NULL, updated_at timestamptz NOT NULL,
  PRIMARY KEY (pipeline, sink, source_schema, source_table))"""


@dataclass(frozen=True, slots=True)
class ProgressTables:
    """The two tables, and which rows of them belong to this sink."""

    progress: TableId
    config: SinkConfig

    @property
    def described(self) -> TableId:
        return TableId(self.progress.schema, f"{self.progress.name}_tables")

    @property
    def _progress(self) -> str:
        """Quoted for a statement with parameters, where psycopg reads % as a placeholder."""
        return quoted(self.progress).replace("%", "%%")

    @property
    def _described(self) -> str:
        return quoted(self.described).replace("%", "%%")

    def make(self, connection: Connection) -> None:
        """Create what is not there. IF NOT EXISTS alone would ask for CREATE rights on what exists already."""
        found = connection.execute("select to_regnamespace(%s) is null", [quote(self.progress.schema)]).fetchone()
        if found and found[0]:
            connection.execute(sql(f"CREATE SCHEMA IF NOT EXISTS {quote(self.progress.schema)}"))
        for table, columns in ((self.progress, _COLUMNS), (self.described, _TABLE_COLUMNS)):
            found = connection.execute("select to_regclass(%s) is null", [quoted(table)]).fetchone()
            if found and found[0]:
                connection.execute(sql(f"CREATE TABLE IF NOT EXISTS {quoted(table)} {columns}"))

    def begun(self, connection: Connection) -> bool:
        """Whether this sink has written here before."""
        there = connection.execute("select to_regclass(%s) is not null", [quoted(self.progress)]).fetchone()
        if not there or not there[0]:
            return False
        return (
            connection.execute(sql(f"SELECT 1 FROM {self._progress} WHERE {_SINKS} LIMIT 1"), self._key[:2]).rowcount
            > 0
        )

    def read(self, connection: Connection, *, take_over: bool) -> Progress:
        """The sink's row, made where there is none; with `take_over` under a new epoch.

        Raises:
            StopError: the row was written from another log (code FOREIGN_LOG), or the rows of `consistency: key` are
                ahead of it (code CONSISTENCY).
        """
        held = self.read_rows(connection, take_over=take_over)
        refuse_half_applied(held.progress, held.rows.values())
        if held.rows:
            connection.execute(sql(f"DELETE FROM {self._progress} WHERE {_SINKS} AND NOT ({_WHOLE})"), self._key)
        return held.progress

    def read_rows(self, connection: Connection, *, take_over: bool) -> Held:
        """All rows of the sink, that of whole commit records made where there is none.

        Raises:
            StopError: written from another log (code FOREIGN_LOG).
        """
        config = self.config
        connection.execute(
            sql(f"INSERT INTO {self._progress} VALUES (%s, %s, %s, 0, 0, -1, '', %s, 0, now()) ON CONFLICT DO NOTHING"),
            [config.pipeline, config.name, config.commit_topic, config.log_id],
        )
        found = connection.execute(
            sql(
                f"UPDATE {self._progress} SET epoch = epoch + %s WHERE {_SINKS} AND {_WHOLE}"
                " RETURNING next_offset, position, epoch, log_id"
            ),
            [1 if take_over else 0, *self._key],
        ).fetchone()
        if found is None:
            raise InvariantError("the progress row of this sink vanished")
        next_seq, position, epoch, log_id = found
        # Behind the lock of the row above, so that none is missed that an older process is just making (see `add`).
        rows = connection.execute(
            sql(
                f"UPDATE {self._progress} SET epoch = %s WHERE {_SINKS} AND NOT ({_WHOLE})"
                ' RETURNING topic, "partition", next_offset, commit_seq, log_id'
            ),
            [epoch, *self._key],
        ).fetchall()
        foreign = [other for other in (log_id, *(row[4] for row in rows)) if other != config.log_id]
        if foreign:
            raise self._foreign(foreign[0])
        held = {Place(topic, partition): Row(offset, seq) for topic, partition, offset, seq, _ in rows}
        return Held(Progress(next_seq, position, epoch), held)

    def add(self, connection: Connection, places: Sequence[Place], epoch: int) -> None:
        """Rows for partitions that had none, unless the sink was taken over: its new owner has not seen them.

        Raises:
            FencedError: it was.
        """
        done = connection.execute(
            sql(f"UPDATE {self._progress} SET updated_at = now() WHERE {_SINKS} AND {_WHOLE} AND epoch = %s"),
            [*self._key, epoch],
        )
        if done.rowcount != 1:
            raise fenced([])
        config = self.config
        with connection.cursor() as cursor:
            cursor.executemany(
                sql(
                    f"INSERT INTO {self._progress} VALUES (%s, %s, %s, %s, 0, -1, '', %s, %s, now())"
                    " ON CONFLICT DO NOTHING"
                ),
                [[config.pipeline, config.name, *place, config.log_id, epoch] for place in places],
            )

    def _foreign(self, held: str) -> StopError:
        config = self.config
        return StopError(
            "the target's progress belongs to another log",
            code="FOREIGN_LOG",
            detail=f"the target holds log {held}, this log is {config.log_id}: it was deleted and made again",
            hint=f"to load everything anew: DELETE FROM {quoted(self.progress)} WHERE pipeline = '{config.pipeline}'"
            f" AND sink = '{config.name}'",
        )

    @property
    def _key(self) -> list[object]:
        return [self.config.pipeline, self.config.name, self.config.commit_topic]

    def take(self, connection: Connection, moves: Sequence[Move], epoch: int) -> None:
        """The first statement of every target transaction: compare-and-set (rule D1).

        Raises:
            FencedError: a row is not the one held.
        """
        done = connection.execute(
            sql(
                f"UPDATE {self._progress} p SET next_offset = m.next_offset, commit_seq = m.commit_seq,"
                " position = m.position, updated_at = now()"
                " FROM unnest(%s::text[], %s::int[],"
                " %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])"
                " m(topic, part, held_offset, held_seq, next_offset, commit_seq, position)"
                f' WHERE {_SINKS} AND p.epoch = %s AND p.topic = m.topic AND p."partition" = m.part'
                " AND p.next_offset = m.held_offset AND p.commit_seq = m.held_seq"
            ),
            [
                [move.place.topic for move in moves],
                [move.place.partition for move in moves],
                [move.held.next_offset for move in moves],
                [move.held.commit_seq for move in moves],
                [move.then.next_offset for move in moves],
                [move.then.commit_seq for move in moves],
                [move.position for move in moves],
                *self._key[:2],
                epoch,
            ],
        )
        if done.rowcount != len(moves):
            raise fenced(moves)

    def descriptions(self, connection: Connection) -> dict[TableId, TableSchema]:
        """Source table → the schema last applied to its target."""
        rows = connection.execute(
            sql(f"SELECT description FROM {self._described} WHERE pipeline = %s AND sink = %s"), self._key[:2]
        )
        schemas = [TableSchema.from_json(json.loads(text)) for (text,) in rows]
        return {schema.table: schema for schema in schemas}

    def describe(self, connection: Connection, schema: TableSchema) -> None:
        connection.execute(
            sql(
                f"INSERT INTO {self._described} VALUES (%s, %s, %s, %s, %s, now())"
                " ON CONFLICT (pipeline, sink, source_schema, source_table)"
                " DO UPDATE SET description = excluded.description, updated_at = excluded.updated_at"
            ),
            [*self._key[:2], *schema.table, json.dumps(schema.to_json())],
        )


_SINKS = "pipeline = %s AND sink = %s"
_WHOLE = 'topic = %s AND "partition" = 0'


def progress_table(option: str | None) -> TableId:
    """From the URL's `progress` option.

    Raises:
        ConfigError: not `schema.table`.
    """
    if option is None:
        return TableId("tailrace", "progress")
    schema, dot, table = option.partition(".")
    if not (schema and dot and table):
        raise ConfigError(f"progress={option} is not schema.table")
    return TableId(schema, table)


def forget(connection: psycopg.Connection[tuple[Any, ...]], progress: TableId, pipeline: str) -> int:
    """Remove a pipeline's rows from both tables; the number of sinks forgotten. The next start loads anew."""
    removed = 0
    for table in (
        progress,
        *(TableId(progress.schema, f"{progress.name}_{more}") for more in ("tables", "dead_letters")),
    ):
        found = connection.execute("select to_regclass(%s) is not null", [quoted(table)]).fetchone()
        if found and found[0]:
            name = quoted(table).replace("%", "%%")
            done = connection.execute(sql(f"DELETE FROM {name} WHERE pipeline = %s"), [pipeline])
            removed = max(removed, done.rowcount) if table == progress else removed
    return removed
