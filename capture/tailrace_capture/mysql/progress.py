"""Where a stream stands: the source's three kinds of positions behind one face, and snapshots' visibility.

Pure. A `ref` (what `Snapshot.sees` is asked about) is (source, number) of a MySQL GTID, (domain, sequence) of a MariaDB
GTID, or the FilePlace at which a transaction ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tailrace_capture.mysql.binlog import MariaGtid, MysqlGtid
from tailrace_schemas.errors import InvariantError
from tailrace_schemas.gtid import GtidSet, MariaGtids
from tailrace_schemas.position import FilePlace, FilePosition, GtidPosition, MariaPosition, Position, parse_position

Gtid = MysqlGtid | MariaGtid
BinlogPosition = GtidPosition | MariaPosition | FilePosition


def binlog_position(position: Position) -> BinlogPosition:
    """
    Raises:
        InvariantError: a position of another engine.
    """
    if not isinstance(position, GtidPosition | MariaPosition | FilePosition):
        raise InvariantError(f"not a position of a binary log: {position}")
    return position


@dataclass(slots=True)
class Progress:
    """`passed`: everything handed on or prepared. `prepared`: undecided XA transactions by xid: position before their
    prepare and its GTID (oldest first)."""

    passed: BinlogPosition
    prepared: dict[bytes, tuple[BinlogPosition, Gtid | None]]

    @staticmethod
    def at(position: Position) -> Progress:
        """A place beside GTIDs may be another server's, after a fail-over: it is unknown until the stream gives one."""
        found = binlog_position(position)
        if isinstance(found, GtidPosition):
            return Progress(GtidPosition(found.gtids), {})
        if isinstance(found, MariaPosition):
            return Progress(MariaPosition(found.gtids), {})
        return Progress(replace(found, again=None), {})

    def has(self, gtid: Gtid | None, end: FilePlace) -> bool:
        """The transaction is in the log already (it is read again because of an older XA prepare)."""
        if isinstance(self.passed, GtidPosition):
            return isinstance(gtid, MysqlGtid) and self.passed.gtids.has(gtid.source, gtid.number)
        if isinstance(self.passed, MariaPosition):
            return isinstance(gtid, MariaGtid) and self.passed.gtids.has(gtid.domain, gtid.sequence)
        return end.at_or_before(self.passed.place)

    def ref(self, gtid: Gtid | None, end: FilePlace) -> object:
        if isinstance(self.passed, FilePosition) or gtid is None:
            return end
        return (gtid.source, gtid.number) if isinstance(gtid, MysqlGtid) else (gtid.domain, gtid.sequence)

    def add(self, gtid: Gtid | None, end: FilePlace) -> None:
        """A transaction that ends at `end` is passed."""
        passed = self.passed
        if isinstance(passed, GtidPosition):
            gtids = passed.gtids.plus(gtid.source, gtid.number) if isinstance(gtid, MysqlGtid) else passed.gtids
            self.passed = GtidPosition(gtids, end)
        elif isinstance(passed, MariaPosition):
            gtids_of_maria = passed.gtids
            if isinstance(gtid, MariaGtid) and not gtids_of_maria.has(gtid.domain, gtid.sequence):
                gtids_of_maria = gtids_of_maria.plus(gtid.domain, gtid.server, gtid.sequence)
            self.passed = MariaPosition(gtids_of_maria, end)
        elif not end.at_or_before(passed.place):
            self.passed = FilePosition(passed.server, end)

    def move(self, place: FilePlace) -> None:
        """Nothing was met up to `place`."""
        if not isinstance(self.passed, FilePosition) or self.passed.place.at_or_before(place):
            self.passed = replace(self.passed, place=place)

    def prepare(self, xid: bytes, before: BinlogPosition, gtid: Gtid | None) -> None:
        self.prepared[xid] = (before, gtid)

    def position(self) -> BinlogPosition:
        """To be written down: with it the stream goes on exactly here."""
        if not self.prepared:
            return self.passed
        oldest, _ = next(iter(self.prepared.values()))
        if isinstance(self.passed, GtidPosition):
            undecided = GtidSet({})
            for _, gtid in self.prepared.values():
                if isinstance(gtid, MysqlGtid):
                    undecided = undecided.plus(gtid.source, gtid.number)
            return replace(self.passed, undecided=undecided)
        if isinstance(self.passed, MariaPosition) and isinstance(oldest, MariaPosition):
            return replace(self.passed, again=oldest.gtids)
        if isinstance(self.passed, FilePosition) and isinstance(oldest, FilePosition):
            return replace(self.passed, again=oldest.place)
        raise InvariantError("positions of two kinds in one stream")


def reading_start(position: BinlogPosition) -> GtidSet | MariaGtids | FilePlace:
    """What to ask the server for."""
    if isinstance(position, GtidPosition):
        return position.gtids if position.undecided is None else position.gtids.minus(position.undecided)
    if isinstance(position, MariaPosition):
        return position.gtids if position.again is None else position.again
    return position.place if position.again is None else position.again


@dataclass(frozen=True, slots=True)
class BinlogSnapshot:
    """A read view. `boundary`: a transaction is visible when the boundary contains it. `past`: read after the view."""

    boundary: BinlogPosition
    past: Position

    def sees(self, ref: object) -> bool:
        boundary = self.boundary
        if isinstance(ref, FilePlace):
            return boundary.place is not None and ref.at_or_before(boundary.place)
        assert isinstance(ref, tuple)
        first, number = ref
        if isinstance(boundary, GtidPosition):
            return boundary.gtids.has(first, number)
        return isinstance(boundary, MariaPosition) and boundary.gtids.has(first, number)

    def sees_all(self, passed: BinlogPosition) -> bool:
        """Rule B2."""
        return self.boundary.contains(passed)

    def to_text(self) -> str:
        return f"{self.boundary}|{self.past}"

    @staticmethod
    def from_text(text: str) -> BinlogSnapshot:
        boundary, _, past = text.partition("|")
        return BinlogSnapshot(binlog_position(parse_position(boundary)), parse_position(past))
