"""A sink's progress in a Postgres target, and the descriptions of the tables it has applied.

Two tables, in schema `tailrace` unless the URL says `?progress=schema.table`: the progress table of interfaces.md, and
beside it `<progress>_tables`, which holds per source table the TableSchema last applied. From the difference to a new
one follows what to alter, also after a restart; foreign keys in it say which actions the sink has to execute.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg

from tailrace_schemas.errors import ConfigError, FencedError, InvariantError, StopError
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks.postgres_catalog import Connection, quote, quoted, sql
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

    def read(self, connection: Connection, *, take_over: bool) -> Progress:
        """The sink's row, made where there is none; with `take_over` under a new epoch.

        Raises:
            StopError: the row was written from another log (code FOREIGN_LOG).
        """
        config = self.config
        connection.execute(
            sql(f"INSERT INTO {self._progress} VALUES (%s, %s, %s, 0, 0, -1, '', %s, 0, now()) ON CONFLICT DO NOTHING"),
            [config.pipeline, config.name, config.commit_topic, config.log_id],
        )
        row = connection.execute(
            sql(
                f"UPDATE {self._progress} SET epoch = epoch + %s WHERE {_OURS}"
                " RETURNING next_offset, position, epoch, log_id"
            ),
            [1 if take_over else 0, *self._key],
        ).fetchone()
        if row is None:
            raise InvariantError("the progress row of this sink vanished")
        if row[3] != config.log_id:
            raise self._foreign(row[3])
        return Progress(row[0], row[1], row[2])

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

    def take(self, connection: Connection, held: Progress, next_seq: int, position: str) -> None:
        """The first statement of every target transaction: compare-and-set (rule D1).

        Raises:
            FencedError: the row is not the one held.
        """
        done = connection.execute(
            sql(
                f"UPDATE {self._progress} SET next_offset = %s, commit_seq = %s, position = %s,"
                f" updated_at = now() WHERE {_OURS} AND next_offset = %s AND epoch = %s"
            ),
            [next_seq, next_seq - 1, position, *self._key, held.next_seq, held.epoch],
        )
        if done.rowcount != 1:
            raise FencedError(
                "another process applies this sink's batches",
                detail=f"it has passed commit record {held.next_seq}, or taken the sink over",
            )

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


_OURS = 'pipeline = %s AND sink = %s AND topic = %s AND "partition" = 0'


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
    for table in (progress, TableId(progress.schema, f"{progress.name}_tables")):
        found = connection.execute("select to_regclass(%s) is not null", [quoted(table)]).fetchone()
        if found and found[0]:
            name = quoted(table).replace("%", "%%")
            done = connection.execute(sql(f"DELETE FROM {name} WHERE pipeline = %s"), [pipeline])
            removed = max(removed, done.rowcount) if table == progress else removed
    return removed
