"""What a database sink keeps of its progress, apart from any engine: rows, and how they move.

Under `consistency: transaction` there is one row: topic = the commit topic, partition 0, next_offset = the next commit
sequence. Under `key` there are, besides that one (everything below it is applied in every partition):

    topic, partition      next_offset: everything below it is applied; one row for each data topic-partition
    commit topic, 1       the markers: of record `commit_seq` the first `next_offset` are executed, and all before it

Rows move by compare-and-set, in the target transaction of what they speak of (rules D1, D5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tailrace_schemas.errors import FencedError, StopError
from tailrace_sinks.sink import Progress

WHOLE, MARKERS = 0, 1  # partitions of the commit topic in the progress table


class Place(NamedTuple):
    topic: str
    partition: int


class Row(NamedTuple):
    """The two numbers that tell how far a progress row has come; both only grow."""

    next_offset: int
    commit_seq: int


NOTHING = Row(0, -1)


@dataclass(frozen=True, slots=True)
class Move:
    """One progress row, from what we hold to what holds when the transaction is committed."""

    place: Place
    held: Row
    then: Row
    position: str


@dataclass(frozen=True, slots=True)
class Held:
    """What the target held when it was asked: `rows` those of the data partitions and of the markers."""

    progress: Progress
    rows: dict[Place, Row]


def whole(commit_topic: str, progress: Progress, next_seq: int, position: str) -> Move:
    """All commit records below `next_seq` are applied."""
    held = Row(progress.next_seq, progress.next_seq - 1)
    return Move(Place(commit_topic, WHOLE), held, Row(next_seq, next_seq - 1), position)


def fenced(moves: Iterable[Move]) -> FencedError:
    held = ", ".join(f"{move.place.topic}/{move.place.partition} at {move.held.next_offset}" for move in moves)
    passed = f"it has passed {held}, or taken the sink over" if held else "it has taken the sink over"
    return FencedError("another process applies this sink's batches", detail=passed)


def refuse_half_applied(progress: Progress, others: Iterable[Row]) -> None:
    """For a sink that goes on with `consistency: transaction` after `key`.

    Raises:
        StopError: some partitions are ahead of the others (code CONSISTENCY).
    """
    if any(row.commit_seq >= progress.next_seq for row in others):
        raise StopError(
            "the target holds parts of source transactions",
            code="CONSISTENCY",
            detail="the sink was killed under consistency key, with some partitions ahead of the others",
            hint="run once more with consistency: key until it is stopped in peace, then change to transaction",
        )
