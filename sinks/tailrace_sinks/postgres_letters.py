"""Dead letters at a Postgres target; see `letters`."""

from __future__ import annotations

from collections.abc import Sequence

from tailrace_sinks.letters import Fields, LetterTable
from tailrace_sinks.postgres_catalog import Connection, quoted, sql


class PostgresLetters(LetterTable[Connection]):
    columns = """(
  pipeline text NOT NULL, sink text NOT NULL, topic text NOT NULL, "partition" integer NOT NULL,
  log_offset bigint NOT NULL, commit_seq bigint NOT NULL, position text NOT NULL, target text NOT NULL,
  code text NOT NULL, reason text NOT NULL, event_key bytea, event bytea, stale boolean NOT NULL,
  noted boolean NOT NULL, done text NOT NULL, set_aside_at timestamp NOT NULL,
  PRIMARY KEY (pipeline, sink, topic, "partition", log_offset))"""
    partition = '"partition"'
    now = "now() AT TIME ZONE 'UTC'"

    @property
    def _name(self) -> str:
        return quoted(self.table).replace("%", "%%")

    def _exists(self, connection: Connection) -> bool:
        found = connection.execute("select to_regclass(%s) is not null", [quoted(self.table)]).fetchone()
        return bool(found and found[0])

    def _make(self, connection: Connection) -> None:
        connection.execute(sql(f"CREATE TABLE IF NOT EXISTS {quoted(self.table)} {self.columns}"))

    def _rows(self, connection: Connection, statement: str, values: Sequence[object]) -> list[Fields]:
        return connection.execute(sql(statement), values).fetchall()

    def _run(self, connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(sql(statement), rows)
