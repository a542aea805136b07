"""`consistency: key`: the same batches, applied over N connections, each of which has whole partitions (rule D5).

A batch is cut at its markers. Between two of them every connection (a *lane*) applies its own partitions in a target
transaction of its own, together with their progress rows; a partition belongs to one lane, so the order of every key is
kept, and no more than that. At a marker all lanes have committed: it is executed once, by the first lane, under its own
row and with the rows of its topic's partitions moved to its offsets in the same transaction. After the last lane of a
batch has committed, the row for whole commit records moves. A process that begins in the middle reads what each row
says and leaves out what its partition has already.

Tables are made and checked by the first lane before any lane writes to them, so no DDL meets an open transaction.
"""

from __future__ import annotations

import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

from tailrace_log.log import DeadLetter
from tailrace_schemas.errors import Act, Finding, InvariantError, policy
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.table import TableSchema
from tailrace_sinks.batch import parted
from tailrace_sinks.envelope import FAULTS
from tailrace_sinks.letters import KeptLetter, LetterId
from tailrace_sinks.progress import MARKERS, NOTHING, Held, Move, Place, Row, whole
from tailrace_sinks.replay import KeepsLetters, Verdict
from tailrace_sinks.row_errors import unreadable
from tailrace_sinks.rows import levels
from tailrace_sinks.sink import Applied, MarkerStep, Piece, Progress, Rows, SinkBatch, SinkConfig, Slice, Step


class Lane(KeepsLetters, Protocol):
    """A database sink whose progress rows are its caller's. Used by one thread at a time."""

    def lead(self, *, take_over: bool) -> Held:
        """Connect and read all progress rows, as `Sink.open` does its one."""

    def join(self) -> None:
        """Connect, where another lane leads."""

    def add_rows(self, places: Sequence[Place], epoch: int) -> None:
        """Make progress rows that say NOTHING, unless the sink was taken over.

        Raises:
            FencedError: it was.
        """

    def refresh(self) -> None:
        """Another lane has made or changed tables."""

    def apply(self, batch: SinkBatch, moves: Sequence[Move], epoch: int, tables: Sequence[TableSchema] = ()) -> Applied:
        """One target transaction: move the rows, see that `tables` exist and fit, apply `batch`. Errors are those of
        `Sink.write`."""

    def noted(self, letters: Sequence[DeadLetter]) -> None: ...

    def findings(self, schemas: list[TableSchema]) -> list[Finding]: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Part:
    """What one lane applies of a batch."""

    first_seq: int
    last_seq: int
    position: str
    content: Slice
    schemas: Mapping[int, TableSchema]
    consistent: bool = False  # only the row key is unique under `consistency: key`: nothing is ever parked
    loading: bool = False

    def slices(self) -> Iterator[Slice]:
        yield self.content

    def schema(self, schema_id: int, /) -> TableSchema:
        return self.schemas[schema_id]


@dataclass(slots=True)
class _Share:
    """Pieces of one lane's partitions, by topic, and where their rows come to stand."""

    pieces: dict[str, list[Piece]] = field(default_factory=lambda: defaultdict(list))
    then: dict[Place, Row] = field(default_factory=dict)


class LanesSink:
    """See `sink.Sink`. `write` returns when every lane has committed. After any error all connections are dropped."""

    def __init__(self, lanes: Sequence[Lane], config: SinkConfig) -> None:
        self._lanes, self._config = lanes, config
        self._pool: ThreadPoolExecutor | None = None
        self._progress: Progress | None = None
        self._rows: dict[Place, Row] = {}
        self._ready: set[TableSchema] = set()

    @property
    def _leader(self) -> Lane:
        return self._lanes[0]

    def open(self, *, take_over: bool) -> Progress:
        self.close()
        try:
            held = self._leader.lead(take_over=take_over)
            for lane in self._lanes[1:]:
                lane.join()
        except BaseException:
            self.close()
            raise
        self._progress, self._rows = held.progress, dict(held.rows)
        if len(self._lanes) > 1:
            self._pool = ThreadPoolExecutor(len(self._lanes), "lane")
        return held.progress

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        for lane in self._lanes:
            lane.close()
        self._pool, self._progress, self._rows, self._ready = None, None, {}, set()

    def noted(self, letters: Sequence[DeadLetter]) -> None:
        self._leader.noted(letters)

    def kept_letters(self) -> list[KeptLetter]:
        return self._leader.kept_letters()

    def replay(self, wanted: Mapping[LetterId, bytes | None], schema: Callable[[int], TableSchema]) -> list[Verdict]:
        return self._leader.replay(wanted, schema)

    def discard(self, wanted: Collection[LetterId]) -> int:
        return self._leader.discard(wanted)

    def findings(self, schemas: list[TableSchema]) -> list[Finding]:
        return self._leader.findings(schemas)

    # ---- a batch

    def write(self, batch: SinkBatch) -> Applied:
        if self._progress is None:
            raise InvariantError("write before open")
        try:
            return self._write(batch, self._progress)
        except BaseException:
            self.close()
            raise

    def _write(self, batch: SinkBatch, progress: Progress) -> Applied:
        applied = Applied()
        for slice_ in batch.slices():
            self._apply_slice(slice_, batch, progress.epoch, applied)
        failpoint("sink.lanes_done")
        end = batch.last_seq + 1
        move = whole(self._config.commit_topic, progress, end, batch.position)
        self._leader.apply(_part(batch, {}, {}), [move], progress.epoch)
        self._progress = Progress(end, batch.position, progress.epoch)
        return applied

    def _apply_slice(self, slice_: Slice, batch: SinkBatch, epoch: int, applied: Applied) -> None:
        """All rows up to each topic's next marker, then the first marker of all, again and again: markers are executed
        in the order of the log, because one row tells how far they have come."""
        left = {topic: deque(steps) for topic, steps in slice_.steps.items()}
        while True:
            heads = {topic: _take_rows(steps) for topic, steps in left.items()}
            self._apply_rows(heads, batch, epoch, applied)
            markers = [steps[0] for steps in left.values() if steps]
            if not markers:
                return
            marker = min((m for m in markers if isinstance(m, MarkerStep)), key=lambda m: (m.seq, m.number))
            left[marker.topic].popleft()
            self._execute(marker, batch, epoch, applied)

    # ---- rows

    def _apply_rows(self, heads: Mapping[str, list[Piece]], batch: SinkBatch, epoch: int, applied: Applied) -> None:
        shares = self._shared_out(heads)
        if not shares:
            return
        schemas = {number: batch.schema(number) for share in shares.values() for number in _schema_ids(share)}
        self._make_rows([place for share in shares.values() for place in share.then], epoch)
        self._prepare(list(dict.fromkeys(schemas.values())), batch, epoch, applied)
        calls = []
        for number, share in shares.items():
            steps = {topic: (Rows(tuple(pieces)),) for topic, pieces in share.pieces.items()}
            moves = [Move(place, self._rows[place], then, batch.position) for place, then in share.then.items()]
            calls.append(_call(self._lanes[number], _part(batch, steps, schemas), moves, epoch))
        for done in self._all(calls):
            applied.add(done)
        for share in shares.values():
            self._rows.update(share.then)

    def _shared_out(self, heads: Mapping[str, list[Piece]]) -> dict[int, _Share]:
        """Lane → what it has to apply: pieces that lie beyond the rows of their partitions."""
        shares: dict[int, _Share] = defaultdict(_Share)
        for topic, pieces in heads.items():
            for piece in pieces:
                place = Place(topic, piece.partition)
                fresh = _beyond(piece, self._rows.get(place, NOTHING).next_offset)
                if fresh is not None:
                    share = shares[lane_of(place, len(self._lanes))]
                    share.pieces[topic].append(fresh)
                    share.then[place] = Row(fresh.first + fresh.count, fresh.seq)
        return shares

    def _make_rows(self, places: Sequence[Place], epoch: int) -> None:
        new = [place for place in places if place not in self._rows]
        if new:
            self._leader.add_rows(new, epoch)
            self._rows |= dict.fromkeys(new, NOTHING)

    def _prepare(self, schemas: Sequence[TableSchema], batch: SinkBatch, epoch: int, applied: Applied) -> None:
        """The tables of these schemas exist and are such that their keys do not depend on each other."""
        new = [schema for schema in schemas if schema not in self._ready]
        if not new:
            return
        assert self._progress is not None
        stay = whole(self._config.commit_topic, self._progress, self._progress.next_seq, self._progress.position)
        applied.add(self._leader.apply(_part(batch, {}, {}), [stay], epoch, new))
        self._follow()
        self._ready |= set(new)

    def _follow(self) -> None:
        for lane in self._lanes[1:]:
            lane.refresh()

    def _all(self, calls: Sequence[Callable[[], Applied]]) -> list[Applied]:
        """Every lane's work; returns when the last has ended, whatever it ended with.

        Raises:
            TailraceError: of those that came, the one that needs a person most.
        """
        if len(calls) == 1 or self._pool is None:
            return [call() for call in calls]
        futures = [self._pool.submit(call) for call in calls]
        wait(futures)
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        if errors:
            raise min(errors, key=lambda error: _URGENT[policy(error)])
        return [future.result() for future in futures]

    # ---- markers

    def _execute(self, marker: MarkerStep, batch: SinkBatch, epoch: int, applied: Applied) -> None:
        """Once: it and the proof that it was, in one target transaction."""
        place = Place(self._config.commit_topic, MARKERS)
        self._make_rows([place], epoch)
        held = self._rows[place]
        then = Row(marker.number + 1, marker.seq)
        if (held.commit_seq, held.next_offset) >= (then.commit_seq, then.next_offset):
            return
        moves = [Move(place, held, then, batch.position), *self._reached(marker, batch)]
        schemas = {number: batch.schema(number) for name, number in marker.data.items() if name == "value_schema_id"}
        applied.add(self._leader.apply(_part(batch, {marker.topic: (marker,)}, schemas), moves, epoch))
        self._rows |= {move.place: move.then for move in moves}
        self._ready = {schema for schema in self._ready if schema.table != (marker.schema, marker.table)}
        self._follow()

    def _reached(self, marker: MarkerStep, batch: SinkBatch) -> list[Move]:
        """The rows of the marker's partitions, from where their last event left them to its offsets: aborted and
        control records take offsets. A partition that had no event has no row."""
        moves = []
        for partition, offset in marker.at.items():
            place = Place(marker.topic, partition)
            held = self._rows.get(place)
            if held is None:
                continue
            if held.next_offset > offset:
                raise InvariantError(f"{marker.topic}/{partition} is at {held.next_offset}, past a marker at {offset}")
            moves.append(Move(place, held, Row(offset, max(held.commit_seq, marker.seq)), batch.position))
        return moves


_URGENT = {Act.STOP: 0, Act.SET_ASIDE: 1, Act.RETRY: 2}


def lane_of(place: Place, lanes: int) -> int:
    """Partitions of one topic go to different lanes. It need not be the same the next time."""
    return (zlib.crc32(place.topic.encode()) + place.partition) % lanes


def _call(lane: Lane, part: _Part, moves: Sequence[Move], epoch: int) -> Callable[[], Applied]:
    return lambda: lane.apply(part, moves, epoch)


def _part(batch: SinkBatch, steps: Mapping[str, tuple[Step, ...]], schemas: Mapping[int, TableSchema]) -> _Part:
    return _Part(batch.first_seq, batch.last_seq, batch.position, Slice(steps), schemas)


def _take_rows(steps: deque[Step]) -> list[Piece]:
    """The pieces before the next marker, taken out of `steps`."""
    out: list[Piece] = []
    while steps and isinstance(steps[0], Rows):
        out += steps[0].pieces
        steps.popleft()
    return out


def _beyond(piece: Piece, offset: int) -> Piece | None:
    """What of a piece lies at `offset` or beyond it."""
    if offset <= piece.first:
        return piece
    if offset >= piece.first + piece.count:
        return None
    return parted(piece, offset - piece.first)[1]


def _schema_ids(share: _Share) -> set[int]:
    try:
        return {part.schema_id for pieces in share.pieces.values() for part in levels(Rows(tuple(pieces)))}
    except FAULTS as error:
        raise unreadable(error) from error


__all__ = ["Lane", "LanesSink", "lane_of"]
