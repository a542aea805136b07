"""Dead letters once more: which may be applied now, in which order, and what becomes of the others.

Pure but for the attempts it asks for. What holds: a letter whose row *waits* is newer than all that was applied to the
row. So it may be applied, if it has all columns or is a delete, or if every earlier letter of its key was: then the row
is as the source had it after that event. One whose row no longer waits is *superseded*: a later event has made the row
right, and the letter would put an older state over it. Letters of different keys do not depend on each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from librt.strings import BytesWriter

from tailrace_schemas.errors import StopError
from tailrace_schemas.table import TableSchema
from tailrace_schemas.wire import put_frame
from tailrace_sinks.dead_letter import Event
from tailrace_sinks.letters import Done, KeptLetter, LetterId
from tailrace_sinks.sink import Piece, Rows, Slice

Mark = tuple[LetterId, bool, Done]


class Blocked(Exception):  # noqa: N818 - no error: it ends one letter, and is told
    """A letter cannot be applied now; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why`: empty when it was applied."""

    letter: KeptLetter
    why: str = ""

    @property
    def went(self) -> bool:
        return not self.why


class KeepsLetters(Protocol):
    """The part of a database sink that looks after its dead letters. Each call connects and closes."""

    def kept_letters(self) -> list[KeptLetter]:
        """All of this sink, in the order of the log."""

    def replay(self, wanted: Mapping[LetterId, bytes | None], schema: Callable[[int], TableSchema]) -> list[Verdict]:
        """Apply letters once more (see `replay` below), each under a savepoint, all in one target transaction that
        also notes what has become of them. A running process of the sink is fenced and goes on by itself.

        Raises:
            as `Sink.write`; nothing was applied, or unknown.
        """

    def discard(self, wanted: Collection[LetterId]) -> int:
        """Note that these are done with; returns how many were not before. Their rows wait as they did."""


@dataclass(slots=True)
class Replaying:
    """What stands for a batch (`sink.SinkBatch`) where letters are applied."""

    schema_of: Callable[[int], TableSchema]
    first_seq: int = 0
    last_seq: int = 0
    position: str = ""
    consistent: bool = False
    loading: bool = False

    def slices(self) -> Iterator[Slice]:
        return iter(())

    def schema(self, schema_id: int, /) -> TableSchema:
        return self.schema_of(schema_id)


def replay(
    kept: Sequence[KeptLetter],
    wanted: Mapping[LetterId, bytes | None],
    partial: Callable[[Event], bool],
    attempt: Callable[[Rows], None],
) -> tuple[list[Verdict], list[Mark]]:
    """Apply the letters that are wanted, in the order of the log. `wanted`: each with its event (None: it is lost);
    `kept`: all of the sink, in that order. `attempt` raises Blocked, or StopError where the table cannot be used.

    Returns:
        a verdict for each that is wanted, and what has changed in the table of letters.
    """
    keys: dict[tuple[str, bytes], list[KeptLetter]] = defaultdict(list)
    for letter in kept:
        if letter.waits:
            keys[letter.id.topic, letter.short_key].append(letter)
    verdicts, marks = [], dict[LetterId, Mark]()
    for letter in kept:
        if letter.id not in wanted:
            continue
        waiting = keys[letter.id.topic, letter.short_key]
        try:
            _apply(letter, wanted[letter.id], waiting, partial, attempt)
        except (Blocked, StopError) as blocked:
            verdicts.append(Verdict(letter, str(blocked)))
            continue
        verdicts.append(Verdict(letter))
        at = waiting.index(letter)
        marks |= {earlier.id: (earlier.id, False, earlier.done) for earlier in waiting[:at]}
        marks[letter.id] = (letter.id, False, "replayed")
        del waiting[: at + 1]
    return verdicts, list(marks.values())


def _apply(
    letter: KeptLetter,
    value: bytes | None,
    waiting: Sequence[KeptLetter],
    partial: Callable[[Event], bool],
    attempt: Callable[[Rows], None],
) -> None:
    if letter.done:
        raise Blocked(f"it was {letter.done} before")
    if letter not in waiting:
        raise Blocked("superseded: a later event of its row was applied, the row is right without it")
    if value is None:
        raise Blocked("its event is in no log any more: change the row at the source again")
    id_, key, seq = letter.id, letter.letter.key, letter.letter.seq
    event = Event((0, 0), id_.partition, id_.offset, seq, letter.short_key, key, value, _frame(key, value))
    if waiting[0] is not letter and partial(event):
        raise Blocked(f"it holds changed columns only, and {waiting[0].id} of the same row comes first")
    attempt(Rows((Piece(seq, id_.partition, 1, event.frame, first=id_.offset),)))


def _frame(key: bytes | None, value: bytes) -> bytes:
    out = BytesWriter()
    put_frame(out, key, value)
    return out.getvalue()
