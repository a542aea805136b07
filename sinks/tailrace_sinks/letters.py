"""The table of dead letters in a target: `<progress>_dead_letters`, written in the transaction of the rows beside which
they were refused. From there they go to the log; the table keeps which rows still wait, and what became of each letter.

One table for every engine; subclasses say how its statements are run. Statements hold `%s` for values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

from tailrace_log.log import DeadLetter
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.table import TableId
from tailrace_sinks.dead_letter import HEADER, StaleKeys
from tailrace_sinks.sink import SinkConfig

C = TypeVar("C")  # a connection
Done = Literal["", "replayed", "discarded"]
Fields = tuple[object, ...]


class LetterId(NamedTuple):
    """Which event of the log it is; the sink is told apart from it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @staticmethod
    def parse(text: str) -> LetterId:
        """
        Raises:
            ConfigError: not `topic:partition:offset`.
        """
        topic, _, rest = text.partition(":")
        partition, _, offset = rest.partition(":")
        if not (topic and partition.isdigit() and offset.isdigit()):
            hint = "TOPIC:PARTITION:OFFSET, as `tailrace dead-letter list` has it"
            raise ConfigError(f"{text!r} names no dead letter", hint=hint)
        return LetterId(topic, int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """`waits`: no event that makes the row right by itself has been applied since. `at`: when it was set aside (UTC,
    as the target writes it). `letter.value` is None once the log has it."""

    letter: DeadLetter
    waits: bool
    done: Done
    at: str

    @property
    def id(self) -> LetterId:
        return LetterId(self.letter.topic, self.letter.partition, self.letter.offset)

    @property
    def short_key(self) -> bytes:
        return (self.letter.key or b"")[HEADER:]

    @property
    def state(self) -> str:
        """`waiting`: it can be replayed. `superseded`: its row is right without it."""
        return self.done or ("waiting" if self.waits else "superseded")


def letter_table(progress: TableId) -> TableId:
    return TableId(progress.schema, f"{progress.name}_dead_letters")


class LetterTable(ABC, Generic[C]):
    """`columns`: those of the table, in the target's types. `partition`: that word as a name. `now`: the time, UTC."""

    columns: ClassVar[str]
    partition: ClassVar[str]
    now: ClassVar[str]

    def __init__(self, progress: TableId, config: SinkConfig) -> None:
        self.table, self.config = letter_table(progress), config

    # ---- what a target has words of its own for

    @property
    @abstractmethod
    def _name(self) -> str: ...

    @abstractmethod
    def _exists(self, connection: C, /) -> bool: ...

    @abstractmethod
    def _make(self, connection: C, /) -> None: ...

    @abstractmethod
    def _rows(self, connection: C, statement: str, values: Sequence[object], /) -> list[Fields]: ...

    @abstractmethod
    def _run(self, connection: C, statement: str, rows: Sequence[Sequence[object]], /) -> None:
        """The statement once for each row of values."""

    # ---- what is the same everywhere

    @property
    def _ours(self) -> list[object]:
        return [self.config.pipeline, self.config.name]

    @property
    def _at(self) -> str:
        return f"{_OURS} AND topic = %s AND {self.partition} = %s AND log_offset = %s"

    def _place(self, id_: LetterId) -> list[object]:
        return [*self._ours, *id_]

    def read(self, connection: C) -> tuple[tuple[DeadLetter, ...], StaleKeys, int]:
        """Letters that the log may not have, the stale keys, and how many letters there are in all. The table is made
        where letters may come; a sink that stops at them now still minds those of before."""
        if not self._exists(connection):
            if self.config.on_row_error == "dead_letter":
                self._make(connection)
            return (), StaleKeys(), 0
        stale = self._rows(
            connection, f"SELECT DISTINCT topic, {_SHORT} FROM {self._name} WHERE {_OURS} AND stale", self._ours
        )
        keys = StaleKeys((str(topic), _bytes(key) or b"") for topic, key in stale)
        return tuple(kept.letter for kept in self._kept(connection, "NOT noted")), keys, self._count(connection, "")

    def kept(self, connection: C) -> list[KeptLetter]:
        """All of this sink, in the order of the log."""
        return self._kept(connection, "0 = 0") if self._exists(connection) else []

    def _kept(self, connection: C, only: str) -> list[KeptLetter]:
        rows = self._rows(
            connection,
            f"SELECT sink, target, topic, {self.partition}, log_offset, commit_seq, position, code, reason, event_key,"
            f" event, stale, done, set_aside_at FROM {self._name} WHERE {_OURS} AND {only}"
            " ORDER BY commit_seq, topic, 4, log_offset",
            self._ours,
        )
        return [_kept(row) for row in rows]

    def _count(self, connection: C, more: str) -> int:
        ((count,),) = self._rows(connection, f"SELECT COUNT(*) FROM {self._name} WHERE {_OURS}{more}", self._ours)
        return int(str(count))

    def open_count(self, connection: C) -> int:
        """Letters that were neither replayed nor discarded."""
        return self._count(connection, " AND done = ''")

    def add(self, connection: C, letters: Sequence[DeadLetter], waits: Iterable[bool]) -> None:
        """`waits`: of each letter. One of a log that was deleted and made again gives way."""
        places = [self._place(LetterId(letter.topic, letter.partition, letter.offset)) for letter in letters]
        self._run(connection, f"DELETE FROM {self._name} WHERE {self._at}", places)
        row = ", ".join(["%s"] * 13)
        rows = [
            [
                *place,
                letter.seq,
                letter.position,
                letter.target,
                letter.code,
                letter.reason,
                letter.key,
                letter.value,
                waiting,
            ]
            for place, letter, waiting in zip(places, letters, waits, strict=True)
        ]
        self._run(connection, f"INSERT INTO {self._name} VALUES ({row}, false, '', {self.now})", rows)

    def heal(self, connection: C, topic: str, keys: Iterable[bytes] | None = None) -> None:
        """Rows of these keys are right again; all of the topic's where none are named."""
        healed = f"UPDATE {self._name} SET stale = false WHERE {_OURS} AND topic = %s AND stale"
        if keys is None:
            self._run(connection, healed, [[*self._ours, topic]])
        else:
            self._run(connection, f"{healed} AND {_SHORT} = %s", [[*self._ours, topic, key] for key in keys])

    def noted(self, connection: C, letters: Sequence[DeadLetter]) -> None:
        """The log has them: the rows of the source need not stay here as well."""
        statement = f"UPDATE {self._name} SET noted = true, event = NULL WHERE {self._at}"
        places = [LetterId(letter.topic, letter.partition, letter.offset) for letter in letters]
        self._run(connection, statement, [self._place(place) for place in places])

    def mark(self, connection: C, marks: Iterable[tuple[LetterId, bool, Done]]) -> None:
        """What has become of letters: which, whether its row still waits, what was done with it."""
        statement = f"UPDATE {self._name} SET stale = %s, done = %s WHERE {self._at}"
        self._run(connection, statement, [[waits, done, *self._place(id_)] for id_, waits, done in marks])


_OURS = "pipeline = %s AND sink = %s"
_SHORT = f"SUBSTRING(event_key, {HEADER + 1})"


def _bytes(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return bytes(value) if isinstance(value, bytearray | memoryview) else str(value).encode()


def _number(value: object) -> int:
    return int(str(value))


def _kept(row: Fields) -> KeptLetter:
    sink, target, topic, partition, offset, seq, position, code, reason, key, event, stale, done, at = row
    place = (str(topic), _number(partition), _number(offset), _number(seq))
    why = (str(position), str(code), str(reason))
    letter = DeadLetter(str(sink), str(target), *place, *why, _bytes(key), _bytes(event))
    return KeptLetter(letter, bool(stale), str(done), str(at))  # type: ignore[arg-type]
