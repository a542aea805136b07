"""Dead letters at a Postgres target: `<progress>_dead_letters`, written in the transaction of the rows beside which
they were refused. From there they go to the log; the table keeps which keys are stale (see `dead_letter`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tailrace_log.log import DeadLetter
from tailrace_schemas.table import TableId
from tailrace_sinks.dead_letter import HEADER, StaleKeys
from tailrace_sinks.postgres_catalog import Connection, quoted, sql
from tailrace_sinks.sink import SinkConfig

_COLUMNS = """(
  pipeline text NOT NULL, sink text NOT NULL, topic text NOT NULL, "partition" integer NOT NULL,
  log_offset bigint NOT NULL, commit_seq bigint NOT NULL, position text NOT NULL, target text NOT NULL,
  code text NOT NULL, reason text NOT NULL, event_key bytea, event bytea, stale boolean NOT NULL,
  noted boolean NOT NULL, set_aside_at timestamptz NOT NULL,
  PRIMARY KEY (pipeline, sink, topic, "partition", log_offset))"""
_OURS = "pipeline = %s AND sink = %s"
_SHORT = f"substring(event_key from {HEADER + 1})"


def letter_table(progress: TableId) -> TableId:
    return TableId(progress.schema, f"{progress.name}_dead_letters")


@dataclass(frozen=True, slots=True)
class LetterTable:
    progress: TableId
    config: SinkConfig

    @property
    def _name(self) -> str:
        return quoted(letter_table(self.progress)).replace("%", "%%")

    @property
    def _key(self) -> list[object]:
        return [self.config.pipeline, self.config.name]

    def _exists(self, connection: Connection) -> bool:
        table = quoted(letter_table(self.progress))
        found = connection.execute("select to_regclass(%s) is not null", [table]).fetchone()
        return bool(found and found[0])

    def read(self, connection: Connection) -> tuple[tuple[DeadLetter, ...], StaleKeys, int]:
        """Letters that the log may not have, the stale keys, and how many letters there are in all. The table is made
        where letters may come; a sink that stops at them now still minds those of before."""
        if not self._exists(connection):
            if self.config.on_row_error == "dead_letter":
                table = quoted(letter_table(self.progress))
                connection.execute(sql(f"CREATE TABLE IF NOT EXISTS {table} {_COLUMNS}"))
            return (), StaleKeys(), 0
        rows = connection.execute(
            sql(
                'SELECT sink, target, topic, "partition", log_offset, commit_seq, position, code, reason, event_key,'
                f" event FROM {self._name} WHERE {_OURS} AND NOT noted ORDER BY commit_seq, topic, 4, log_offset"
            ),
            self._key,
        ).fetchall()
        stale = connection.execute(
            sql(f"SELECT DISTINCT topic, {_SHORT} FROM {self._name} WHERE {_OURS} AND stale"), self._key
        ).fetchall()
        total = connection.execute(sql(f"SELECT count(*) FROM {self._name} WHERE {_OURS}"), self._key).fetchone()
        return tuple(DeadLetter(*row) for row in rows), StaleKeys(stale), int(total[0]) if total else 0

    def add(self, connection: Connection, letters: Sequence[DeadLetter], stale: Iterable[bytes]) -> None:
        """`stale`: the keys of the topic that are so after this."""
        keys = set(stale)
        with connection.cursor() as cursor:
            cursor.executemany(
                sql(
                    f"INSERT INTO {self._name} VALUES"
                    " (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, false, now())"
                    ' ON CONFLICT (pipeline, sink, topic, "partition", log_offset) DO UPDATE SET'
                    " code = excluded.code, reason = excluded.reason, stale = excluded.stale, noted = false,"
                    " commit_seq = excluded.commit_seq, position = excluded.position, target = excluded.target,"
                    " event_key = excluded.event_key, event = excluded.event, set_aside_at = now()"
                ),
                [self._row(letter, (letter.key or b"")[HEADER:] in keys) for letter in letters],
            )

    def _row(self, letter: DeadLetter, stale: bool) -> list[object]:
        place = (letter.sink, letter.topic, letter.partition, letter.offset, letter.seq, letter.position)
        why = (letter.target, letter.code, letter.reason)
        return [self.config.pipeline, *place, *why, letter.key, letter.value, stale]

    def heal(self, connection: Connection, topic: str, keys: Iterable[bytes] | None = None) -> None:
        """Rows of these keys are right again; all of the topic's where none are named."""
        only = "" if keys is None else f" AND {_SHORT} = ANY(%s)"
        values = [*self._key, topic] + ([] if keys is None else [list(keys)])
        connection.execute(
            sql(f"UPDATE {self._name} SET stale = false WHERE {_OURS} AND topic = %s AND stale{only}"), values
        )

    def noted(self, connection: Connection, letters: Sequence[DeadLetter]) -> None:
        """The log has them: the rows of the source need not stay here as well."""
        with connection.cursor() as cursor:
            cursor.executemany(
                sql(
                    f"UPDATE {self._name} SET noted = true, event = NULL"
                    f' WHERE {_OURS} AND topic = %s AND "partition" = %s AND log_offset = %s'
                ),
                [[*self._key, letter.topic, letter.partition, letter.offset] for letter in letters],
            )
