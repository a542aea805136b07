"""`on_row_error: dead_letter`: which events of some rows a target refuses, and which later ones must go with them.

Pure but for the attempts it asks for. The rule: a key is *stale* from an event of it that was set aside until an event
that makes its row right again by itself, one with all its columns, or a delete. In between an event with columns that
were not sent is set aside as well (STALE_KEY): it would mix values of two states into a row that never was.
Whole and partial events keep their order, since nothing is put off: an event is applied in its turn or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from tailrace_log.log import DeadLetter
from tailrace_schemas.errors import EventError, RowRejectedError, StopError
from tailrace_schemas.table import TableSchema
from tailrace_schemas.wire import frames, next_frame
from tailrace_sinks.envelope import FAULTS, OP_DELETE, Plan, Reader
from tailrace_sinks.sink import Rows, SinkBatch

# Beyond this it is not a row that does not fit but a table, or a deployment, and a person has to look.
MOST_STALE_KEYS = 10_000
HEADER = 5


class Unclear(Enum):
    """The attempt failed for a reason that lies between rows: a unique value."""

    UNCLEAR = 0


UNCLEAR = Unclear.UNCLEAR
# Applies rows, or finds out whether it could (keep False: nothing remains). None: applied. With keep it raises instead
# of giving UNCLEAR; other errors are raised in any case.
Attempt = Callable[[Rows, bool], EventError | Unclear | None]


@dataclass(frozen=True, slots=True)
class Event:
    """One record of some rows. `place`: piece and number in it. `key`: without its header, so that a new schema id does
    not change it."""

    place: tuple[int, int]
    partition: int
    offset: int
    seq: int
    key: bytes
    whole_key: bytes | None
    value: bytes | None
    frame: bytes


@dataclass(slots=True)
class Outcome:
    """`refused`: what was set aside, in order. `stale`: of the keys met or stale before, those that are so now.
    `waiting`: places of those set aside after which nothing has made their row right."""

    refused: list[tuple[Event, EventError]] = field(default_factory=list)
    stale: set[bytes] = field(default_factory=set)
    waiting: set[tuple[int, int]] = field(default_factory=set)


def apply_surviving(rows: Rows, stale: frozenset[bytes], partial: Callable[[Event], bool], attempt: Attempt) -> Outcome:
    """Apply all rows but those that cannot be, at once where nothing is refused. `stale`: keys of this topic.

    Raises:
        EventError: an event is refused that cannot be set aside, because nothing tells it from others (no key).
        Whatever `attempt` raises.
    """
    if not stale and not isinstance(fault := attempt(rows, True), EventError):
        return Outcome()
    found = events(rows)
    faults: dict[tuple[int, int], EventError] = {}
    while True:
        kept, outcome = _sorted(found, faults, stale, partial)
        fault = attempt(_only(rows, kept), True)
        if not isinstance(fault, EventError):
            return outcome
        if all(event.whole_key is None for event in kept):
            raise fault
        more = _refused(rows, kept, attempt)
        if not more:
            raise fault
        faults |= more


def events(rows: Rows) -> list[Event]:
    out = []
    for number, piece in enumerate(rows.pieces):
        at = 0
        for index, (key, value) in enumerate(frames(piece.frames)):
            end = next_frame(piece.frames, at, len(piece.frames))
            frame, at = piece.frames[at:end], end
            short = b"" if key is None else key[HEADER:]
            place = (number, index)
            out.append(Event(place, piece.partition, piece.first + index, piece.seq, short, key, value, frame))
    return out


def _only(rows: Rows, kept: Iterable[Event]) -> Rows:
    by_piece: dict[int, list[bytes]] = defaultdict(list)
    for event in kept:
        by_piece[event.place[0]].append(event.frame)
    return Rows(
        tuple(
            replace(piece, count=len(by_piece[number]), frames=b"".join(by_piece[number]))
            for number, piece in enumerate(rows.pieces)
            if by_piece[number]
        )
    )


def _sorted(
    found: Sequence[Event],
    faults: Mapping[tuple[int, int], EventError],
    stale: frozenset[bytes],
    partial: Callable[[Event], bool],
) -> tuple[list[Event], Outcome]:
    """What is left to apply, given which events are refused."""
    kept, outcome = [], Outcome(stale=set(stale))
    waiting: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for event in found:
        fault = faults.get(event.place)
        if fault is None and event.key in outcome.stale and event.value is not None and partial(event):
            fault = stale_key()
        if fault is not None:
            outcome.refused.append((event, fault))
            outcome.stale.add(event.key)
            waiting[event.key].append(event.place)
            continue
        if event.key in outcome.stale and event.value is not None:
            outcome.stale.discard(event.key)
            waiting.pop(event.key, None)
        kept.append(event)
    outcome.waiting = {place for places in waiting.values() for place in places}
    return kept, outcome


def stale_key() -> EventError:
    return RowRejectedError("an earlier event of the key was set aside", code="STALE_KEY", detail="columns not sent")


def _refused(rows: Rows, kept: Sequence[Event], attempt: Attempt) -> dict[tuple[int, int], EventError]:
    """The first refused event of every key that has one. Keys do not depend on each other, so groups of them are tried
    and halved; within a key the first prefix that fails tells."""
    keys: dict[bytes, list[Event]] = defaultdict(list)
    for event in kept:
        keys[event.key].append(event)
    out: dict[tuple[int, int], EventError] = {}
    groups = [list(keys.values())]
    while groups:
        group = groups.pop()
        if attempt(_only(rows, (event for some in group for event in some)), False) is None:
            continue
        if len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
        elif (first := _first_refused(rows, group[0], attempt)) is not None:
            out[first[0].place] = first[1]
    return out


def _first_refused(rows: Rows, some: Sequence[Event], attempt: Attempt) -> tuple[Event, EventError] | None:
    for count in range(1, len(some) + 1):
        fault = attempt(_only(rows, some[:count]), False)
        if isinstance(fault, EventError):
            return some[count - 1], fault
    return None


def is_partial(event: Event, schema: Callable[[int], TableSchema], plan: Callable[[TableSchema], Plan]) -> bool:
    """Whether an event leaves columns of its row as they are. One that cannot be read counts as such."""
    assert event.value is not None
    reader = Reader(event.value)
    try:
        reader.walk(plan(schema(int.from_bytes(event.value[1:HEADER], "big"))), HEADER, len(event.value))
        return reader.op != OP_DELETE and bool(reader.unavailable())
    except FAULTS:
        return True


def letters(outcome: Outcome, sink: str, topic: str, batch: SinkBatch, target: str) -> list[DeadLetter]:
    return [
        DeadLetter(
            sink,
            target,
            topic,
            event.partition,
            event.offset,
            event.seq,
            batch.position,
            fault.code,
            fault.detail or fault.message,
            event.whole_key,
            event.value,
        )
        for event, fault in outcome.refused
    ]


def too_many(what: str, limit: str) -> StopError:
    return StopError(
        f"{what} are set aside",
        code="DEAD_LETTERS",
        detail=f"that is not a row here and there ({limit})",
        hint="tailrace dead-letter list says why; change the target so that it takes them, then tailrace dead-letter"
        " replay --all (or discard --all, or raise the limit), and start again",
    )


class StaleKeys:
    """Keys whose rows at the target wait for an event that makes them right, by topic; what the target's own table of
    letters says, kept in memory while one transaction after the other changes it."""

    def __init__(self, found: Iterable[tuple[str, bytes]] = ()) -> None:
        self._keys: dict[str, frozenset[bytes]] = {}
        for topic, key in found:
            self._keys[topic] = self.of(topic) | {key}

    @property
    def count(self) -> int:
        return sum(map(len, self._keys.values()))

    def of(self, topic: str) -> frozenset[bytes]:
        return self._keys.get(topic, frozenset())

    def set(self, topic: str, keys: Iterable[bytes]) -> None:
        """
        Raises:
            StopError: there are too many (code DEAD_LETTERS).
        """
        self._keys[topic] = frozenset(keys)
        if self.count > MOST_STALE_KEYS:
            raise too_many(f"events of {self.count:,} keys", "the most rows that may wait")

    def copy(self) -> StaleKeys:
        out = StaleKeys()
        out._keys = dict(self._keys)
        return out
