"""Dead letters at a MySQL or MariaDB target; see `letters`."""

from __future__ import annotations

from collections.abc import Sequence

from tailrace_sinks.letters import Fields, LetterTable
from tailrace_sinks.mysql_session import Session, literal, quoted


class MySqlLetters(LetterTable[Session]):
    columns = """(
  pipeline varchar(100) NOT NULL, sink varchar(100) NOT NULL, topic varchar(249) NOT NULL, `partition` int NOT NULL,
  log_offset bigint NOT NULL, commit_seq bigint NOT NULL, position longtext NOT NULL, target varchar(250) NOT NULL,
  code varchar(100) NOT NULL, reason longtext NOT NULL, event_key longblob, event longblob, stale boolean NOT NULL,
  noted boolean NOT NULL, done varchar(20) NOT NULL, set_aside_at datetime(6) NOT NULL,
  PRIMARY KEY (pipeline, sink, topic, `partition`, log_offset))
  ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"""
    partition = "`partition`"
    now = "UTC_TIMESTAMP(6)"

    @property
    def _name(self) -> str:
        return quoted(self.table).replace("%", "%%")

    def _exists(self, session: Session) -> bool:
        return session.read_table(self.table) is not None

    def _make(self, session: Session) -> None:
        session.run(f"CREATE TABLE IF NOT EXISTS {quoted(self.table)} {self.columns}")

    def _rows(self, session: Session, statement: str, values: Sequence[object]) -> list[Fields]:
        return list(session.rows(_filled(statement, values)))

    def _run(self, session: Session, statement: str, rows: Sequence[Sequence[object]]) -> None:
        for values in rows:
            session.run(_filled(statement, values))


def _filled(statement: str, values: Sequence[object]) -> str:
    return statement % tuple(map(_constant, values))


def _constant(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bytes():
            return f"x'{value.hex()}'"
        case bool() | int():
            return str(int(value))
        case _:
            return literal(str(value))
