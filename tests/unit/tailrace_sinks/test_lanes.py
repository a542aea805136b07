"""Which connection applies what under `consistency: key`, and how progress rows move, seen by lanes that only note it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from fix_sink import ITEMS, Stream

from tailrace_log.log import CommitRecord, DeadLetter
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import (
    Finding,
    InvariantError,
    RowRejectedError,
    StopError,
    TailraceError,
    TargetUnavailableError,
)
from tailrace_schemas.table import TableSchema
from tailrace_sinks.batch import Limits, LogBatch
from tailrace_sinks.lanes import LanesSink, lane_of
from tailrace_sinks.letters import KeptLetter, LetterId
from tailrace_sinks.progress import NOTHING, Held, Move, Place, Row
from tailrace_sinks.replay import Verdict
from tailrace_sinks.service import Schemas
from tailrace_sinks.sink import Applied, Progress, SinkBatch, SinkConfig

CONTROL = "commits"


@dataclass
class NotingLane:
    """`moves`: of each transaction, in order; `steps`: whether it held rows (r), a marker (m) or nothing (-)."""

    rows: dict[Place, Row] = field(default_factory=dict)
    moves: list[dict[Place, tuple[Row, Row]]] = field(default_factory=list)
    steps: str = ""
    error: Exception | None = None

    def lead(self, *, take_over: bool) -> Held:
        return Held(Progress(0, "", 1), dict(self.rows))

    def join(self) -> None: ...

    def add_rows(self, places: Sequence[Place], epoch: int) -> None: ...

    def refresh(self) -> None: ...

    def apply(
        self,
        batch: SinkBatch,
        moves: Sequence[Move],
        epoch: int,
        tables: Sequence[TableSchema] = (),
    ) -> Applied:
        if self.error is not None:
            raise self.error
        (slice_,) = batch.slices()
        kinds = {type(step).__name__ for steps in slice_.steps.values() for step in steps}
        self.steps += "t" if tables else "r" if "Rows" in kinds else "m" if kinds else "-"
        self.moves.append({move.place: (move.held, move.then) for move in moves})
        return Applied()

    def noted(self, letters: Sequence[DeadLetter]) -> None: ...

    def kept_letters(self) -> list[KeptLetter]:
        return []

    def replay(self, wanted: Mapping[LetterId, bytes | None], schema: Callable[[int], TableSchema]) -> list[Verdict]:
        raise NotImplementedError

    def discard(self, wanted: Collection[LetterId]) -> int:
        return len(wanted)

    def findings(self, schemas: list[TableSchema]) -> list[Finding]:
        return []

    def close(self) -> None: ...


def log_with_a_truncate() -> tuple[MemoryLog, str]:
    log = MemoryLog(partitions=2)
    s = Stream(log)
    for n in range(8):
        s.insert(ITEMS, id=n)
    s.mark("truncate", ITEMS)
    s.insert(ITEMS, id=20)
    s.commit()
    return log, s.encoder(ITEMS).topic


def written(log: MemoryLog, lanes: Sequence[NotingLane], records: list[CommitRecord]) -> None:
    sink = LanesSink(lanes, SinkConfig("p", "s", CONTROL, "id", consistency="key", connections=len(lanes)))
    sink.open(take_over=True)
    sink.write(LogBatch(records, log.reader(), Schemas(log), Limits()))


def shifted(record: CommitRecord, by: int) -> CommitRecord:
    """As in Kafka, where aborted and control records lie between the last event and the marker's offsets."""
    (marker,) = record.markers
    first = {r.partition: r.first for r in record.ranges}
    at = {p: offset + by for p, offset in marker.at.items() if p in first}
    return replace(record, markers=(replace(marker, at=at),))


def test_every_partition_has_one_lane_and_a_marker_waits_for_all() -> None:
    log, topic = log_with_a_truncate()
    lanes = [NotingLane(), NotingLane()]
    written(log, lanes, log.records)
    leader, other = lanes
    assert leader.steps.startswith("tr" if leader.steps.count("r") else "t")
    assert other.steps in ("r", "rr")
    assert leader.steps.index("m") > leader.steps.index("t")
    assert leader.steps.endswith("-")
    for number, lane in enumerate(lanes):
        places = {place for moves in lane.moves for place in moves if place.topic == topic}
        mine = {place for place in places if lane_of(place, 2) == number}
        assert mine == places or lane is leader  # the leader moves all of them at the marker


def test_a_marker_takes_the_rows_of_its_partitions_to_its_offsets() -> None:
    log, topic = log_with_a_truncate()
    lane = NotingLane()
    (record,) = log.records
    beyond = shifted(record, 100)  # so far that every event lies before the marker
    written(log, [lane], [beyond])
    moves = lane.moves[lane.steps.index("m")]
    (marker,) = beyond.markers
    assert moves.pop(Place(CONTROL, 1)) == (NOTHING, Row(1, 0))
    last = {r.partition: r.last + 1 for r in record.ranges}
    assert moves == {Place(topic, p): (Row(last[p], 0), Row(marker.at[p], 0)) for p in last}


def test_a_partition_past_a_marker_that_was_not_executed_is_a_bug() -> None:
    log, topic = log_with_a_truncate()
    with pytest.raises(InvariantError, match="past a marker"):
        written(log, [NotingLane({Place(topic, 0): Row(50, 7), Place(topic, 1): Row(50, 7)})], log.records)


def test_an_executed_marker_is_left_out() -> None:
    log, topic = log_with_a_truncate()
    done = {Place(CONTROL, 1): Row(1, 0), Place(topic, 0): Row(50, 7), Place(topic, 1): Row(50, 7)}
    lane = NotingLane(done)
    written(log, [lane], log.records)
    assert lane.steps == "-"


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (TargetUnavailableError("a"), StopError("b"), StopError),
        (StopError("a"), RowRejectedError("b"), StopError),
        (TargetUnavailableError("a"), RowRejectedError("b"), RowRejectedError),
    ],
)
def test_of_several_errors_the_one_that_needs_a_person_is_told(
    first: TailraceError, second: TailraceError, told: type[TailraceError]
) -> None:
    log, topic = log_with_a_truncate()
    lanes = [NotingLane(), NotingLane()]
    sink = LanesSink(lanes, SinkConfig("p", "s", CONTROL, "id", consistency="key", connections=2))
    sink.open(take_over=True)
    s = Stream(log)
    for n in range(8):
        s.insert(ITEMS, id=n)
    s.commit()
    sink.write(LogBatch(log.records[:1], log.reader(), Schemas(log), Limits()))
    lanes[0].error, lanes[1].error = first, second
    with pytest.raises(told):
        sink.write(LogBatch(log.records[1:], log.reader(), Schemas(log), Limits()))
    assert {lane_of(Place(topic, p), 2) for p in range(2)} == {0, 1}
