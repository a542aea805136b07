"""Commit records to batches: which log transactions are applied together, and their content cut at markers.

Pure but for `LogBatch.slices`, which reads the log. The one rule to know: a batch ends only at a record across which
no source transaction is open, so a series is begun when its closing record is already there (rule D3); stream records
of an abandoned series are left out, its chunk records never (rule C3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tailrace_log.log import Batch, CommitRecord, LogReader, Marker
from tailrace_schemas.errors import LOAD_AGAIN, StopError
from tailrace_schemas.table import TableSchema
from tailrace_schemas.wire import next_frame
from tailrace_sinks.sink import MarkerStep, Piece, Rows, Slice, Step


@dataclass(frozen=True, slots=True)
class Limits:
    """`rows`: joining stops once a batch holds so many records. `slice_bytes`: how much of it is read at once."""

    rows: int = 50_000
    slice_bytes: int = 64 * 1024 * 1024


def rows_of(record: CommitRecord) -> int:
    return sum(announced.count for announced in record.ranges)


def is_alone(record: CommitRecord) -> bool:
    """Schema changes are applied in a batch of their own, because some targets commit implicitly at DDL (rule D6)."""
    return any(marker.kind == "schema" for marker in record.markers)


def batch_length(pending: list[CommitRecord], limits: Limits) -> int:
    """How many of `pending` (consecutive, the first not yet applied) make the next batch; 0 while the series at
    their head is not closed."""
    best = rows = 0
    alone = False
    for count, record in enumerate(pending, start=1):
        if best and (is_alone(record) or alone):
            return best
        alone = alone or is_alone(record)
        rows += rows_of(record)
        if best and rows > limits.rows:
            return best
        if record.open is None:
            best = count
    return best


def abandoned(records: list[CommitRecord]) -> frozenset[int]:
    """Sequences of the stream records that a record of kind `abandon` among `records` takes back."""
    closes = [(record.since, record.seq) for record in records if record.kind == "abandon"]
    return frozenset(
        record.seq
        for record in records
        if record.kind == "stream"
        for since, until in closes
        if since is not None and since <= record.seq < until
    )


def check_sequence(records: list[CommitRecord], next_seq: int) -> None:
    """
    Raises:
        StopError: a commit record is missing or comes twice (code SEQUENCE).
    """
    for expected, record in enumerate(records, start=next_seq):
        if record.seq != expected:
            raise StopError(
                "the log's commit records are not consecutive",
                code="SEQUENCE",
                detail=f"record {expected} was due, record {record.seq} came",
                hint="keep log and target as they are and report this; a new load is the way on",
            )


def split_frames(frames: bytes, count: int) -> int:
    """The byte offset behind the first `count` records."""
    at = 0
    for _ in range(count):
        at = next_frame(frames, at, len(frames))
    return at


def cut(record: CommitRecord, batches: list[Batch]) -> dict[str, list[Step]]:
    """One log transaction by topic: its records, with its markers between them where they take effect.

    Raises:
        StopError: the records are not the announced ones (code OFFSET_LOST).
    """
    left = _pieces(record, batches)
    steps: dict[str, list[Step]] = defaultdict(list)
    for number, m in enumerate(record.markers):
        if before := _take_before(m, left[m.topic]):
            steps[m.topic].append(Rows(tuple(before)))
        steps[m.topic].append(MarkerStep(m.kind, m.schema, m.table, m.topic, m.at, m.data, record.seq, number))
    for topic, pieces in left.items():
        if rest := [piece for piece in pieces if piece.count]:
            steps[topic].append(Rows(tuple(rest)))
    return steps


def _pieces(record: CommitRecord, batches: list[Batch]) -> dict[str, list[Piece]]:
    """Topic → the records of every announced range."""
    out: dict[str, list[Piece]] = defaultdict(list)
    for announced, batch in zip(record.ranges, batches, strict=True):
        found = (batch.topic, batch.partition, batch.count)
        if found != (announced.topic, announced.partition, announced.count):
            raise StopError(
                "the log does not hold what its commit record announces",
                code="OFFSET_LOST",
                detail=f"record {record.seq}: {announced.topic}/{announced.partition}, {announced.count} records",
                hint=LOAD_AGAIN,
            )
        loaded = record.kind == "chunk"
        piece = Piece(record.seq, batch.partition, batch.count, batch.frames, loaded, announced.first)
        out[batch.topic].append(piece)
    return out


def _take_before(marker: Marker, pieces: list[Piece]) -> list[Piece]:
    """Take the records below the marker's offsets out of `pieces`, in place. A partition the marker does not name has
    no record before it."""
    taken = []
    for index, piece in enumerate(pieces):
        count = min(max(marker.at.get(piece.partition, piece.first) - piece.first, 0), piece.count)
        if count:
            before, pieces[index] = parted(piece, count)
            taken.append(before)
    return taken


def parted(piece: Piece, count: int) -> tuple[Piece, Piece]:
    """The first `count` records of a piece, and the others."""
    at = split_frames(piece.frames, count)
    before = replace(piece, count=count, frames=piece.frames[:at])
    return before, replace(piece, count=piece.count - count, frames=piece.frames[at:], first=piece.first + count)


def joined(parts: list[dict[str, list[Step]]]) -> Slice:
    """Log transactions in order as one slice: rows that no marker parts become one step."""
    steps: dict[str, list[Step]] = defaultdict(list)
    for part in parts:
        for topic, more in part.items():
            for step in more:
                last = steps[topic][-1] if steps[topic] else None
                if isinstance(step, Rows) and isinstance(last, Rows):
                    steps[topic][-1] = Rows(last.pieces + step.pieces)
                else:
                    steps[topic].append(step)
    return Slice({topic: tuple(found) for topic, found in steps.items()})


class LogBatch:
    """A batch whose content is read from the log when it is asked for."""

    def __init__(
        self,
        records: list[CommitRecord],
        reader: LogReader,
        schema: Callable[[int], TableSchema],
        limits: Limits,
    ) -> None:
        self.records = records
        self.first_seq = records[0].seq
        self.last_seq = records[-1].seq
        self.position = records[-1].position
        self.consistent = records[-1].consistent
        self.loading = not all(record.consistent for record in records)
        self.schema = schema
        self.rows_read = 0
        self.bytes_read = 0
        self._reader = reader
        self._limits = limits

    def slices(self) -> Iterator[Slice]:
        skipped = abandoned(self.records)
        parts: list[dict[str, list[Step]]] = []
        size = 0
        self.rows_read = self.bytes_read = 0
        for record in self.records:
            if record.seq in skipped or not (record.ranges or record.markers):
                continue
            batches = self._reader.read(record) if record.ranges else []
            parts.append(cut(record, batches))
            read = sum(len(batch.frames) for batch in batches)
            size += read
            self.bytes_read += read
            self.rows_read += rows_of(record)
            if size >= self._limits.slice_bytes:
                yield joined(parts)
                parts, size = [], 0
        if parts:
            yield joined(parts)
