"""Dead letters at a MySQL or MariaDB target; see postgres_letters, whose twin this is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tailrace_log.log import DeadLetter
from tailrace_schemas.table import TableId
from tailrace_sinks.dead_letter import HEADER, StaleKeys
from tailrace_sinks.mysql_session import Session, literal, quoted
from tailrace_sinks.sink import SinkConfig

_COLUMNS = """(
  pipeline varchar(100) NOT NULL, sink varchar(100) NOT NULL, topic varchar(249) NOT NULL, `partition` int NOT NULL,
  log_offset bigint NOT NULL, commit_seq bigint NOT NULL, position longtext NOT NULL, target varchar(250) NOT NULL,
  code varchar(100) NOT NULL, reason longtext NOT NULL, event_key longblob, event longblob, stale boolean NOT NULL,
  noted boolean NOT NULL, set_aside_at datetime(6) NOT NULL,
  PRIMARY KEY (pipeline, sink, topic, `partition`, log_offset))
  ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"""
_SHORT = f"SUBSTRING(event_key, {HEADER + 1})"


def letter_table(progress: TableId) -> TableId:
    return TableId(progress.schema, f"{progress.name}_dead_letters")


@dataclass(frozen=True, slots=True)
class LetterTable:
    progress: TableId
    config: SinkConfig

    @property
    def _name(self) -> str:
        return quoted(letter_table(self.progress))

    @property
    def _ours(self) -> str:
        return f"pipeline = {literal(self.config.pipeline)} AND sink = {literal(self.config.name)}"

    def read(self, session: Session) -> tuple[tuple[DeadLetter, ...], StaleKeys, int]:
        """Letters that the log may not have, the stale keys, and how many letters there are in all. The table is made
        where letters may come; a sink that stops at them now still minds those of before."""
        if session.read_table(letter_table(self.progress)) is None:
            if self.config.on_row_error == "dead_letter":
                session.run(f"CREATE TABLE IF NOT EXISTS {self._name} {_COLUMNS}")
            return (), StaleKeys(), 0
        rows = session.rows(
            "SELECT sink, target, topic, `partition`, log_offset, commit_seq, position, code, reason, event_key, event"
            f" FROM {self._name} WHERE {self._ours} AND NOT noted ORDER BY commit_seq, topic, `partition`, log_offset"
        )
        stale = session.rows(f"SELECT DISTINCT topic, {_SHORT} FROM {self._name} WHERE {self._ours} AND stale")
        keys = StaleKeys((str(topic), _bytes(key) or b"") for topic, key in stale)
        total = session.value(f"SELECT COUNT(*) FROM {self._name} WHERE {self._ours}")
        return tuple(_letter(row) for row in rows), keys, int(str(total))

    def add(self, session: Session, letters: Sequence[DeadLetter], stale: Iterable[bytes]) -> None:
        """`stale`: the keys of the topic that are so after this."""
        keys = set(stale)
        for letter in letters:
            values = [
                literal(self.config.pipeline),
                literal(letter.sink),
                literal(letter.topic),
                str(letter.partition),
                str(letter.offset),
                str(letter.seq),
                literal(letter.position),
                literal(letter.target),
                literal(letter.code),
                literal(letter.reason),
                _hex(letter.key),
                _hex(letter.value),
                str(int((letter.key or b"")[HEADER:] in keys)),
                "false",
                "UTC_TIMESTAMP(6)",
            ]
            # PRIMARY KEY alone: a letter of a log that was deleted and made again gives way.
            session.run(f"REPLACE INTO {self._name} VALUES ({', '.join(values)})")

    def heal(self, session: Session, topic: str, keys: Iterable[bytes] | None = None) -> None:
        """Rows of these keys are right again; all of the topic's where none are named."""
        only = "" if keys is None else f" AND {_SHORT} IN ({', '.join(_hex(key) for key in keys)})"
        session.run(
            f"UPDATE {self._name} SET stale = false WHERE {self._ours} AND topic = {literal(topic)} AND stale{only}"
        )

    def noted(self, session: Session, letters: Sequence[DeadLetter]) -> None:
        """The log has them: the rows of the source need not stay here as well."""
        for letter in letters:
            session.run(
                f"UPDATE {self._name} SET noted = true, event = NULL WHERE {self._ours} AND topic ="
                f" {literal(letter.topic)} AND `partition` = {letter.partition} AND log_offset = {letter.offset}"
            )


def _hex(data: bytes | None) -> str:
    return "NULL" if data is None else f"x'{data.hex()}'"


def _bytes(value: object) -> bytes | None:
    return None if value is None else bytes(value) if isinstance(value, (bytes, bytearray)) else str(value).encode()


def _letter(row: Sequence[object]) -> DeadLetter:
    sink, target, topic, partition, offset, seq, position, code, reason, key, event = row
    return DeadLetter(
        str(sink),
        str(target),
        str(topic),
        int(str(partition)),
        int(str(offset)),
        int(str(seq)),
        str(position),
        str(code),
        str(reason),
        _bytes(key),
        _bytes(event),
    )
